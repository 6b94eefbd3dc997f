"""`evergreen spans`: what became of each span, and what a person found out since. `evergreen models trace`."""

from typing import Any

import click

from pipeline.commands.options import pipeline_option, registry_of, registry_option, span_of, who
from pipeline.console import table


@click.group(invoke_without_command=True)
@registry_option
@pipeline_option
@click.pass_context
def spans(context: click.Context, registry_url: str | None, pipeline: str | None) -> None:
    """What became of each span: pending, learned, quarantined, condemned."""
    if context.invoked_subcommand is None:
        known = registry_of(registry_url, pipeline).spans()
        rows = [(s.verdict.get("label", str(s.span)), s.state, _why(s.verdict)) for s in known]
        table(("span", "state", "why"), rows)


@spans.command()
@click.argument("span")
@click.option("--why", required=True, help="Told by every run that goes on from another version because of it.")
@registry_option
@pipeline_option
def condemn(span: str, why: str, registry_url: str | None, pipeline: str | None) -> None:
    """Mark a span bad that was learned: no run goes on from a version that learned it, or reads it as it is.

    SPAN is a number or a date. `evergreen gate override` takes it back.
    """
    from serving.lineage import condemned, start_of, why_not_live

    registry = registry_of(registry_url, pipeline)
    registry.condemn_span(span_of(span), who(), why)
    click.echo(f"span {span} is condemned: it is left out until its files are others")
    versions, bad = registry.versions(), condemned(registry.span_records())
    if because := why_not_live(versions, bad):
        start = start_of(versions, bad)
        click.echo(because)
        click.echo("it is served until a better one is, or until evergreen rollback takes it out of service")
        click.echo(f"the next run starts from {f'version {start.version}' if start else 'nothing'}")


@click.command()
@click.option("--span", required=True, help="A number or a date.")
@registry_option
@pipeline_option
def trace(span: str, registry_url: str | None, pipeline: str | None) -> None:
    """The versions that stem from a span, and how each came to know it."""
    from serving.lineage import stems

    registry = registry_of(registry_url, pipeline)
    versions = registry.versions()
    states = {version.version: version.state for version in versions}
    found = stems(versions, span_of(span))
    if not found:
        click.echo(f"no version in the registry has learned span {span}")
        return
    table(("version", "state", "how"), [(str(number), states[number], how) for number, how in found.items()])


def _why(verdict: dict[str, Any]) -> str:
    accepted, bad = verdict.get("override"), verdict.get("condemned")
    words = [f"condemned by {bad['who']}: {bad['why']}"] if bad else []
    words += [f"accepted by {accepted['who']}: {accepted['why']}"] if accepted else []
    if version := verdict.get("version"):
        words.append(f"by version {version}")
    return "; ".join([*words, *verdict.get("reasons", [])])
