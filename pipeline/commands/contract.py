"""Commands about the data: a first contract from files, the contract held against the data, and whether data comes."""

import sys
from datetime import datetime, timezone
from pathlib import Path

import click

from components.errors import EvergreenError
from pipeline.commands.options import data_option


@click.group()
def contract() -> None:
    """The data contract: which of your columns means what."""


@contract.command("infer")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Writes this file; without it, prints.")
def contract_infer(paths: tuple[Path, ...], out: Path | None) -> None:
    """Write a first configuration for files, or folders of files, with a reason beside every guess."""
    if out is not None and out.exists():
        raise EvergreenError(f"{out} is there already; name another file with --out, or remove it")
    from pipeline.contract_infer.write import infer

    text = infer(paths, out)
    if out is None:
        click.echo(text, nl=False)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    open_questions = sum("NOT SURE" in line or "To do:" in line for line in text.splitlines())
    marked = f" {open_questions} marked NOT SURE or To do: read these first." if open_questions else ""
    click.echo(f"wrote {out}.{marked} Read it, correct it, then: evergreen contract check {out}")


@contract.command("check")
@click.argument("config_path", type=click.Path(path_type=Path), metavar="CONFIG")
@click.option("--span", help="A number, or a date such as 2011-12-09; by default the newest span that has files.")
@data_option
def contract_check(config_path: Path, span: str | None, data_root: str | None) -> None:
    """Hold one span, the catalog and the users against the contract: PASS, WARN and FAIL lines."""
    from pipeline.config import read_config

    config = read_config(config_path, data_root)
    from pipeline.contract_check.check import check
    from pipeline.contract_check.line import has_failed, tell

    lines = check(config, span)
    click.echo(tell(lines))
    sys.exit(1 if has_failed(lines) else 0)


@click.command("check-freshness")
@click.option("--config", "config_path", type=click.Path(path_type=Path), required=True, help="The YAML file.")
@click.option("--max-silence-minutes", type=click.FloatRange(min=0), help="Instead of gate.max_silence_minutes.")
@data_option
def check_freshness(config_path: Path, max_silence_minutes: float | None, data_root: str | None) -> None:
    """Fail when no events came for too long: for cron, or a monitor."""
    from pipeline import freshness
    from pipeline.config import read_config

    config = read_config(config_path, data_root)
    found = freshness.check_freshness(config, datetime.now(timezone.utc), max_silence_minutes)
    click.echo(found.sentence, err=found.is_silent)
    sys.exit(1 if found.is_silent else 0)
