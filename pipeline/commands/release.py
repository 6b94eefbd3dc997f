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
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    help="The YAML file of the pipeline: what the check asks for, and how many versions are kept; without it, the "
    "check's defaults, and all.",
)
@pipeline_option
def release(file: Path, why: str, config_path: Path | None, pipeline: str | None) -> None:
    """Push the model in production once more, with other items hidden; the next models keep it so.

    Nothing is learned. `evergreen rollback` takes it back.
    """
    from components.servable_validator.config import ValidatorConfig
    from pipeline.config import read_config
    from pipeline.release import release_availability

    config = read_config(config_path) if config_path else None
    places = places_of(pipeline or (config.name if config else None))
    validator = config.validator if config else ValidatorConfig()
    keep = config.pusher.keep_versions if config else None
    pushed = release_availability(places.destination, file, who(), why, validator, keep)
    click.echo(f"version {pushed.version} is live: {pushed.why}")
