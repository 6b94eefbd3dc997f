"""`evergreen tune`: arguments in, one call out."""

import difflib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.commands.options import data_option, span_of
from pipeline.console import quiet, table
from pipeline.places import Places

if TYPE_CHECKING:
    from pipeline.tune.search import Found


@click.command()
@click.option("--config", "config_path", type=click.Path(path_type=Path), required=True, help="The YAML file.")
@click.option("--trials", type=click.IntRange(min=1), help="Instead of tuning.trials.")
@click.option("--span", help="The newest span to read, a number or a date; by default the newest that has files.")
@click.option("--dry-run", is_flag=True, help="Shows what would be written, and writes nothing.")
@data_option
def tune(config_path: Path, trials: int | None, span: str | None, dry_run: bool, data_root: str | None) -> None:
    """Search for better settings of the Trainer; the best go into the configuration file."""
    from pipeline.config import read_config
    from pipeline.tune.search import search

    config = read_config(config_path, data_root)
    if trials is not None:
        config = replace(config, tuning=replace(config.tuning, trials=trials))
    number = None if span is None else span_of(span, config.contract.interactions.files)
    with quiet(Places.from_environment(config.name).logs / "tune.log") as console:
        space = ", ".join(config.tuning.space)
        console.say(f"  as configured, and {config.tuning.trials} trials of {space}; the examples first")
        found = search(config, span=number)
    show(found)
    conclude(found, config_path, dry_run)


def show(found: "Found") -> None:
    """The trials as a table, the best first."""
    from pipeline.tune.search import worst_last
    from trainer.tuning import shown

    ranked = sorted([found.configured, *found.trials], key=worst_last)
    rows = [
        (
            f"{trial.score:.4f}" if trial.score is not None else f"failed: {trial.why}",
            *(shown(value) for value in trial.values.values()),
            f"{trial.seconds:.1f} s",
            "as configured" if trial is found.configured else "",
        )
        for trial in ranked
    ]
    table(("ndcg@10", *found.configured.values, "time", ""), rows)


def conclude(found: "Found", config_path: Path, dry_run: bool) -> None:
    """Writes the best settings into the configuration file, and shows the difference."""
    from pipeline.tune.config_file import with_settings, write

    if not (changes := found.changes):
        click.echo(f"  no trial is better than what is configured: {config_path} stays as it is")
        return
    with config_path.open(encoding="utf-8", newline="") as file:
        before = file.read()
    after = with_settings(before, "trainer", changes)
    names = (str(config_path), f"{config_path} (tuned)")
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), *names, n=2, lineterm="")
    click.echo("\n".join(lines))
    if dry_run:
        click.echo("  nothing is written: --dry-run")
        return
    write(config_path, after)
    click.echo(f"  wrote {config_path}")
