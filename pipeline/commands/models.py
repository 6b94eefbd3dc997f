"""`evergreen models`: the versions in the registry, and what may be done with them."""

import click

from pipeline.commands.options import pipeline_option, registry_of, registry_option
from pipeline.commands.production import clean, promote, quarantine, rollback
from pipeline.commands.spans import trace
from pipeline.console import table

SHOWN_METRICS = ("recall@10", "recall@100", "ndcg@10")
AUDIT_HEADER = ("when", "who", "action", "from", "to", "why")


@click.group()
def models() -> None:
    """Versions in the registry."""


@models.command("list")
@registry_option
@pipeline_option
def models_list(registry_url: str | None, pipeline: str | None) -> None:
    """One line per pushed version, the newest first."""
    from pipeline.versions import few, figure

    rows = [
        (
            str(v.version),
            v.state,
            few(v.manifest.get("spans", [])),
            *(figure(v.metrics.get(name)) for name in SHOWN_METRICS),
        )
        for v in registry_of(registry_url, pipeline).versions()
    ]
    table(("version", "state", "spans", *SHOWN_METRICS), rows)


@models.command()
@click.argument("version", type=int)
@registry_option
@pipeline_option
def show(version: int, registry_url: str | None, pipeline: str | None) -> None:
    """What one version is, what it learned, how good it was found, why it was pushed, and what became of it."""
    from pipeline.versions import audit_rows, facts, metrics, moment

    registry = registry_of(registry_url, pipeline)
    found = registry.get(version)
    own = [("state", found.state), ("pushed", moment(found.created_at)), ("files", found.uri)]
    table(("version", str(version)), [*own, *facts(found).items()])
    if figures := metrics(found):
        table(("metric", "value"), figures)
    for sentence in found.verdict.get("sentences", []):
        click.echo(f"  {sentence}")
    lines = [line for line in registry.audit() if version in (line.from_version, line.to_version)]
    table(AUDIT_HEADER, audit_rows(lines))


@models.command()
@click.argument("one", type=int)
@click.argument("other", type=int)
@registry_option
@pipeline_option
def compare(one: int, other: int, registry_url: str | None, pipeline: str | None) -> None:
    """Two versions side by side: their metrics, and what else differs.

    Each version was judged on the data that was newest then; the verdict of a push compares on the same.
    """
    from pipeline.versions import compared_metrics, differences

    registry = registry_of(registry_url, pipeline)
    first, second = registry.get(one), registry.get(other)
    table(("metric", str(one), str(other), "difference"), compared_metrics(first, second))
    if rows := differences(first, second):
        table(("differs", str(one), str(other)), rows)
    else:
        click.echo("nothing else differs")


@models.command()
@registry_option
@pipeline_option
def audit(registry_url: str | None, pipeline: str | None) -> None:
    """Who changed what is in production, when, how and why; the newest first."""
    from pipeline.versions import audit_rows

    table(AUDIT_HEADER, audit_rows(registry_of(registry_url, pipeline).audit()))


for command in (clean, promote, quarantine, rollback, trace):
    models.add_command(command)
