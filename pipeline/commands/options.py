"""What several commands ask of the person who calls them, and how it is answered."""

import getpass
import os
from pathlib import Path

import click

from components.errors import EvergreenError
from components.interaction_example_gen.span_pattern import SpanPattern
from pipeline.cluster_config import REGISTRY_VARIABLE
from pipeline.places import Destination, Places

registry_option = click.option("--registry-url", envvar=REGISTRY_VARIABLE, help="On a cluster: SQLAlchemy's URL.")
pipeline_option = click.option("--pipeline", help="Name of the pipeline; not needed when there is only one.")
serving_option = click.option(
    "--serving-path", type=click.Path(path_type=Path), help="On a cluster, with --registry-url: numbered versions."
)
releases_option = click.option(
    "--releases-path",
    type=click.Path(path_type=Path),
    help="On a cluster; by default the folder releases beside --serving-path.",
)
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
    _check_registry(places)
    return Registry.at(places.registry)


def serving_path_of(url: str | None, serving_path: Path | None, pipeline: str | None) -> Path:
    """The numbered versions of a cluster, or of a pipeline on this machine.

    Raises EvergreenError when only the registry or only the path was named.
    """
    _check_together(url, serving_path)
    return serving_path or places_of(pipeline).serving


def destination_of(
    url: str | None, serving_path: Path | None, releases_path: Path | None, pipeline: str | None
) -> Destination:
    """Registry and folders of a cluster, or of a pipeline on this machine.

    Raises:
      EvergreenError: only a part of a cluster's was named, a folder is not there, or there is no registry here.
    """
    _check_together(url, serving_path)
    if url and serving_path:
        releases = releases_path or serving_path.parent / "releases"
        for option, path in (("--serving-path", serving_path), ("--releases-path", releases)):
            if not path.is_dir():
                raise EvergreenError(f"{path} is no folder; name the one that pushes write with {option}")
        return Destination(url, str(serving_path), str(releases))
    if releases_path:
        raise EvergreenError("--releases-path goes together with --registry-url and --serving-path")
    places = places_of(pipeline)
    _check_registry(places)
    return places.destination


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


def _check_together(url: str | None, serving_path: Path | None) -> None:
    if (url is None) != (serving_path is None):
        raise EvergreenError("--registry-url and --serving-path go together: which version is live, and its files")


def _check_registry(places: Places) -> None:
    if not places.registry.exists():
        raise EvergreenError(f"no registry at {places.registry}; run the pipeline once: evergreen run --config …")
