"""What a person may change in production: roll back, promote, quarantine, clean. Each change is a line of the audit."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from components.errors import EvergreenError
from pipeline.commands.options import (
    destination_of,
    pipeline_option,
    registry_of,
    registry_option,
    releases_option,
    serving_option,
    serving_path_of,
    who,
)

if TYPE_CHECKING:
    from pipeline.config import PipelineConfig


@click.command()
@click.option("--why", default="asked for on the command line", help="Kept in the registry's audit.")
@serving_option
@registry_option
@pipeline_option
def rollback(why: str, serving_path: Path | None, registry_url: str | None, pipeline: str | None) -> None:
    """Take the live version out of service; the one before it is live again."""
    from serving.releases import rollback as roll_back

    serving = serving_path_of(registry_url, serving_path, pipeline)
    gone, live = roll_back(registry_of(registry_url, pipeline), serving, who(), why)
    click.echo(f"version {gone.version} is quarantined; version {live.version} is live")


@click.command()
@click.argument("version", type=int)
@click.option("--why", required=True, help="Kept in the registry's audit, and told to whoever wants it back.")
@serving_option
@registry_option
@pipeline_option
def quarantine(
    version: int, why: str, serving_path: Path | None, registry_url: str | None, pipeline: str | None
) -> None:
    """Take a version out for good, as bad. The live one: as evergreen rollback does."""
    from serving.releases import quarantine as put_away

    serving = serving_path_of(registry_url, serving_path, pipeline)
    gone, live = put_away(registry_of(registry_url, pipeline), serving, version, who(), why)
    click.echo(f"version {gone.version} is quarantined; {f'version {live.version}' if live else 'nothing'} is live")


@click.command()
@click.argument("version", type=int)
@click.option("--why", required=True, help="Kept in the registry's audit, and in the version's manifest.")
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    help="The YAML file of the pipeline: what the check asks for, and how many versions are kept; without it, the "
    "check's defaults, and all.",
)
@serving_option
@releases_option
@registry_option
@pipeline_option
def promote(
    version: int,
    why: str,
    config_path: Path | None,
    serving_path: Path | None,
    releases_path: Path | None,
    registry_url: str | None,
    pipeline: str | None,
) -> None:
    """Bring a retired version back: a copy of it, under a new number, is live.

    What is hidden now as not available stays hidden.
    """
    config = _config(config_path)
    pipeline = pipeline or (config.name if config else None)
    destination = destination_of(registry_url, serving_path, releases_path, pipeline)
    from components.servable_validator.config import ValidatorConfig
    from pipeline.release import promote as push_again

    validator = config.validator if config else ValidatorConfig()
    keep = config.pusher.keep_versions if config else None
    pushed = push_again(destination, version, who(), why, validator, keep)
    click.echo(f"version {pushed.version} is live: {pushed.why}")


@click.command()
@click.option("--keep", type=click.IntRange(min=2), help="Instead of pusher.keep_versions of the configuration.")
@click.option("--config", "config_path", type=click.Path(path_type=Path), help="The YAML file of the pipeline.")
@serving_option
@releases_option
@registry_option
@pipeline_option
def clean(
    keep: int | None,
    config_path: Path | None,
    serving_path: Path | None,
    releases_path: Path | None,
    registry_url: str | None,
    pipeline: str | None,
) -> None:
    """Remove the files of all but the newest versions, as each push does; never those of one in use."""
    config = _config(config_path)
    if keep is None:
        if config is None:
            raise EvergreenError("say how many versions to keep: --keep 10, or --config with the pipeline's YAML file")
        keep = config.pusher.keep_versions
    pipeline = pipeline or (config.name if config else None)
    destination = destination_of(registry_url, serving_path, releases_path, pipeline)
    from serving.cleaning import clean as clean_away
    from serving.registry import Registry

    paths = (Path(destination.serving_path), Path(destination.releases_path))
    gone = clean_away(Registry(destination.registry_url), *paths, keep, who())
    click.echo(f"cleaned away: {', '.join(f'version {version}' for version in gone) or 'nothing'}")


def _config(path: Path | None) -> "PipelineConfig | None":
    from pipeline.config import read_config  # late: it needs pydantic and the leaves of all components

    return read_config(path) if path else None
