"""`evergreen data-age`: arguments in, one call out."""

from pathlib import Path

import click

from pipeline.commands.options import data_option, span_of
from pipeline.console import quiet
from pipeline.places import Places


def _windows(_: click.Context, __: click.Parameter, text: str) -> tuple[int, ...]:
    sizes = [part.strip() for part in text.split(",")]
    if not all(size.isdigit() and int(size) for size in sizes):
        raise click.BadParameter(f"{text!r}; expected numbers of spans such as 1,2,4,8")
    return tuple(map(int, sizes))


def _half_lives(_: click.Context, __: click.Parameter, text: str) -> tuple[float | None, ...]:
    try:
        days = [None if part.strip() == "none" else float(part) for part in text.split(",")]
    except ValueError:
        days = [-1.0]
    if not all(each is None or 0 < each < float("inf") for each in days):
        raise click.BadParameter(f"{text!r}; expected days above 0, and none, such as none,7,30")
    return tuple(days)


@click.command("data-age")
@click.option("--config", "config_path", type=click.Path(path_type=Path), required=True, help="The YAML file.")
@click.option("--span", help="The newest span to read, a number or a date; by default the newest that has files.")
@click.option("--windows", default="1,2,4,8", show_default=True, callback=_windows, help="Spans to train on.")
@click.option("--half-lives", default="none,7,30", show_default=True, callback=_half_lives, help="Days.")
@data_option
@click.option("--out", type=click.Path(path_type=Path), help="By default data-age/ beside the run reports.")
def data_age(
    config_path: Path,
    span: str | None,
    windows: tuple[int, ...],
    half_lives: tuple[float | None, ...],
    data_root: str | None,
    out: Path | None,
) -> None:
    """How old may data and model be: train small models on several windows, half-lives and ages, and recommend."""
    from pipeline.config import read_config
    from pipeline.data_age.find_out import find_out
    from pipeline.data_age.page import write

    config = read_config(config_path, data_root)
    number = None if span is None else span_of(span, config.contract.interactions.files)
    places = Places.from_environment(config.name)
    with quiet(places.logs / "data-age.log") as console:
        findings = find_out(config, span=number, windows=windows, half_lives=half_lives, say=console.say)
        page = write(findings, out or places.reports / "data-age")
        console.say("")
        console.say(f"  {findings.recommendation.sentence}")
        for reservation in findings.recommendation.reservations:
            console.say(f"    · {reservation}")
        console.say(f"  page: {page.absolute()}")
