"""`evergreen release`: a new version of the live model, in seconds."""

from pathlib import Path

import click

from pipeline.commands.options import pipeline_option, places_of, who


@click.command()
@click.option(
    "--availability",
    "file",
    required=True,
    type=click.Path(path_type=Path),
    help="CSV with item_id,available; items that it does not name are available.",
)
@click.option("--why", default="what is available has changed", show_default=True, help="For the audit.")
@pipeline_option
def release(file: Path, why: str, pipeline: str | None) -> None:
    """Push the model in production once more, with other items hidden; the next models keep it so.

    Nothing is learned. `evergreen rollback` takes it back.
    """
    from pipeline.release import release_availability

    pushed = release_availability(places_of(pipeline), file, who(), why)
    click.echo(f"version {pushed.version} is live: {pushed.why}")
