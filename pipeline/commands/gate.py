"""`evergreen gate`: what a person may say to the data gate."""

import click

from pipeline.commands.options import pipeline_option, registry_of, registry_option, span_of, who


@click.group()
def gate() -> None:
    """What the data gate decided, and who decided otherwise."""


@gate.command()
@click.option("--span", required=True, help="A quarantined span, a number or a date; `evergreen spans` shows them.")
@click.option("--why", required=True, help="Told with every verdict on the span, and kept in the registry.")
@registry_option
@pipeline_option
def override(span: str, why: str, registry_url: str | None, pipeline: str | None) -> None:
    """Accept a span that the gate quarantined."""
    registry_of(registry_url, pipeline).override_span(span_of(span), who(), why)
    click.echo(f"span {span} is accepted: the next run learns it, and its verdict names you and your reason")
