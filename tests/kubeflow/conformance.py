"""`make kubeflow`: the MovieLens pipeline as a package, executed as a cluster would, held against the local run.

    python -m tests.kubeflow.conformance [--config … --data … --keep DIR]

Two spans by the local runner; the same two by the commands of the compiled package, in pods of an emulated Kubeflow
Pipelines (emulator.py), one span by each convention for the output file; every figure compared; and the package loaded
by a later release of kfp in an environment of its own.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from pipeline.console import table
from tests.kubeflow.compare import DOCUMENTS, differences, documents, figures
from tests.kubeflow.emulator import OUTPUT_FILES, Backend, Task

ROOT = Path(__file__).resolve().parents[2]
SPANS = (1, 2)
LATER_KFP = "2.17.0"


@click.command(help=__doc__)
@click.option("--config", default=ROOT / "examples/movielens/config.yaml", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), help="Spans; by default MovieLens 100K is prepared.")
@click.option("--keep", type=click.Path(path_type=Path), help="Works in this folder, and leaves it there.")
def main(config: Path, data: Path | None, keep: Path | None) -> None:
    """Ends with 1 when anything differs."""
    if data is None:
        data = ROOT / "examples/movielens/data"
        subprocess.run([sys.executable, str(ROOT / "examples/movielens/prepare.py"), "--out", str(data)], check=True)
    if keep:
        sys.exit(conform(config, data, keep))
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(conform(config, data, Path(folder)))


def conform(config_path: Path, data: Path, home: Path) -> int:
    """Runs everything in `home`; returns the exit code."""
    say("loading TensorFlow, TFX and Beam (about 20 s)")
    from evergreen_kubeflow.runner import compile_package
    from pipeline.config import read_config

    config = read_config(config_path, str(data))
    package = compile_package(config, home / "package.yaml")
    say(f"package: {package.stat().st_size / 1000:.0f} kB, compiled")
    load_with_later_kfp(package)
    local, local_seconds = run_locally(config, home / "local")
    remote, remote_seconds = run_on_the_emulator(package, data, home / "cluster")
    rows, differing = [], 0
    for span in SPANS:
        for name in DOCUMENTS:
            found = differences(local[span][name], remote[span][name])
            differing += len(found)
            rows.append((str(span), name, str(figures(local[span][name])), str(len(found)), "; ".join(found[:2])))
    table(("span", "document", "figures", "differ", ""), rows)
    say(f"local {local_seconds:.0f} s, emulated {remote_seconds:.0f} s, imports not counted")
    say("the package gives what the local run gives" if not differing else f"{differing} figures differ")
    return int(differing > 0)


def run_locally(config: Any, home: Path) -> tuple[dict[int, Any], float]:
    """The documents of each span, and the seconds."""
    from pipeline import local_runner, runs
    from pipeline.places import Places

    places, told, started = Places(home, config.name), {}, time.perf_counter()
    for span in SPANS:
        say(f"span {span}, local")
        outcome = local_runner.run(config, places, span)
        print(local_runner.tell(outcome), flush=True)
        nodes = {node.id: node for node in runs.run(places, outcome.run_id).nodes}
        wanted = [(node, channel) for node, channel, _ in DOCUMENTS.values()]
        told[span] = documents({(n, c): Path(nodes[n].outputs[c].uri) for n, c in wanted})
    return told, time.perf_counter() - started


def run_on_the_emulator(package: Path, data: Path, home: Path) -> tuple[dict[int, Any], float]:
    """The same, by the commands of the package."""
    from evergreen_kubeflow.mend import kebab

    url = f"sqlite:///{home}/registry.sqlite"
    backend = Backend(home / "store", {"evergreen-registry": {"url": url}})
    backend.start()
    places = {
        "data_root": str(data.absolute()),
        "serving_path": str(home / "serving/recommender"),
        "releases_path": str(home / "serving/releases"),
    }
    told, started = {}, time.perf_counter()
    for span, output_file in zip(SPANS, OUTPUT_FILES, strict=True):
        say(f"span {span}, in pods; the output file is {output_file}")
        backend.output_file = output_file
        done = backend.run(package, {**places, "span": span}, show)
        if failed := [task for task in done.values() if task.state == "FAILED"]:
            sys.exit(f"{failed[0].name} failed:\n{failed[0].log[-3000:]}")
        told[span] = documents(
            {
                (node, channel): backend.path(done[kebab(node)].artifacts[channel]["uri"])
                for node, channel, _ in DOCUMENTS.values()
            }
        )
    seconds = time.perf_counter() - started
    backend.close()
    return told, seconds


def load_with_later_kfp(package: Path) -> None:
    """Ends the command when kfp's loader refuses the package."""
    uv = shutil.which("uv") or str(ROOT / ".uv/bin/uv")
    wanted = [f"--with=kfp=={LATER_KFP}", f"--with=kfp-kubernetes=={LATER_KFP}"]
    script = str(Path(__file__).with_name("later_kfp.py"))
    command = [uv, "run", "--quiet", "--no-project", "--python", sys.executable, "--isolated", *wanted]
    loaded = subprocess.run([*command, "python", script, str(package)], capture_output=True, text=True)
    if loaded.returncode:
        sys.exit(f"kfp {LATER_KFP} refuses the package:\n{loaded.stderr}")
    say(loaded.stdout.strip())


def show(task: Task) -> None:
    print(
        f"  {'✓' if task.state != 'FAILED' else '✗'} {task.name:<26}{task.seconds:7.1f} s {task.peak_gib:6.2f} GiB",
        flush=True,
    )


def say(line: str) -> None:
    print(f"▸ {line}", flush=True)


if __name__ == "__main__":
    main()
