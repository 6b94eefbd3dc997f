"""What several commands ask of the person who calls them, and how it is answered."""

import getpass
import os

import click

from components.errors import EvergreenError
from components.interaction_example_gen.span_pattern import SpanPattern
from pipeline.cluster_config import REGISTRY_VARIABLE
from pipeline.places import Places

registry_option = click.option("--registry-url", envvar=REGISTRY_VARIABLE, help="On a cluster: SQLAlchemy's URL.")
pipeline_option = click.option("--pipeline", help="Name of the pipeline; not needed when there is only one.")
data_option = click.option(
    "--data", "data_root", help="Reads the data from here instead of the configuration's data_root."
)


def places_of(pipeline: str | None) -> Places:
    """The places of the named pipeline, or of the only one there is.

    Raises:
      EvergreenError: none was named, and there is none, or more than one.
    """
    if pipeline:
        return Places.from_environment(pipeline)
    home = Places.from_environment("_").home
    found = sorted(path.parent.name for path in home.glob("*/registry.sqlite"))
    if len(found) != 1:
        known = ", ".join(found) or "none; run one first: evergreen run --config examples/movielens/config.yaml"
        raise EvergreenError(f"name a pipeline with --pipeline; below {home} there is {known}")
    return Places(home, found[0])


def registry_of(url: str | None, pipeline: str | None):  # type: ignore[no-untyped-def]  # Registry costs 0.4 s: late
    """The registry at a URL, or of a pipeline on this machine."""
    from serving.registry import Registry

    if url:
        return Registry(url)
    places = places_of(pipeline)
    if not places.registry.exists():
        raise EvergreenError(f"no registry at {places.registry}; run the pipeline once: evergreen run --config …")
    return Registry.at(places.registry)


def span_of(label: str, files: str | None = None) -> int:
    """A span as people call it, a number or a date (2011-12-09, 2011-12-09T14); `files`: the pattern that names spans.

    Raises:
      EvergreenError: it is neither, or a date where spans are numbered.
    """
    dated = "{YYYY}-{MM}-{DD}T{HH}" if "T" in label else "{YYYY}-{MM}-{DD}"
    try:
        return SpanPattern(files or dated).number(label)
    except ValueError as error:
        raise EvergreenError(str(error)) from error


def who() -> str:
    """For the audit: who asks. A pod's user may have no name."""
    try:
        return getpass.getuser()
    except KeyError:
        return f"user {os.getuid()}"
