"""A run on a cluster as a person sees it: a line per task as it ends."""

import re
from datetime import datetime, timezone
from typing import Any

import click

from components.errors import RunFailed
from evergreen_kubeflow.client import ONGOING, Client
from pipeline.console import WIDTH

GOOD = ("SUCCEEDED", "SKIPPED", "CACHED")
# Every Argo node is a "task" of a run: next to ours are the workflow itself, the DAG, drivers and executor pods.
PLUMBING = re.compile(r"(root|executor|.+-driver)(\(\d+\))?")


def follow(client: Client, run_id: str, pipeline: str, poll_seconds: float) -> None:
    """Prints a line per task as it ends. Raises RunFailed unless the run succeeds."""
    told: set[str] = set()

    def tell(run: Any) -> None:
        for task in tasks_of(run, pipeline):
            if task.state not in ONGOING and task.task_id not in told:
                told.add(task.task_id)
                mark = "✓" if task.state in GOOD else "✗"
                click.echo(f"  {mark} {task.display_name:<{WIDTH}} {task.state:<10} {duration(task):>10}")

    run = client.wait(run_id, tell, poll_seconds)
    if run.state not in GOOD:
        reasons = [f"{t.display_name}: {reason(t) or t.state}" for t in tasks_of(run, pipeline) if t.state == "FAILED"]
        raise RunFailed(
            "; ".join([f"run {run_id} ended as {run.state}", *(reasons or [reason(run)])]).removesuffix("; ")
        )
    click.echo(f"run {run_id} {run.state} in {duration(run)}")


def tasks_of(run: Any, pipeline: str) -> list[Any]:
    """The tasks of the pipeline, as they began."""
    tasks = (run.run_details and run.run_details.task_details) or []
    workflow = re.compile(rf"{re.escape(pipeline)}-[a-z0-9]{{5}}")
    ours = [t for t in tasks if not PLUMBING.fullmatch(t.display_name) and not workflow.fullmatch(t.display_name)]
    return sorted(ours, key=lambda task: (task.start_time is None, task.start_time or task.create_time, task.task_id))


def duration(work: Any) -> str:
    """How long a run or a task took, or takes until now."""
    begun, ended = (
        (work.created_at, work.finished_at) if hasattr(work, "created_at") else (work.start_time, work.end_time)
    )
    if begun is None:
        return "–"
    if ended is None or ended.year <= 1970:  # the server's way to say: not yet
        ended = datetime.now(timezone.utc)
    return f"{(ended - begun).total_seconds():.1f} s"


def reason(work: Any) -> str:
    return " ".join(((work.error and work.error.message) or "").split())
