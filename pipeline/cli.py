"""The `evergreen` command: arguments in, one call out. What needs no TFX imports none."""

import os
import sys
import warnings
from importlib.metadata import entry_points
from pathlib import Path

import click

from components.errors import EvergreenError, NothingNew
from pipeline.commands.contract import check_freshness, contract
from pipeline.commands.data_age import data_age
from pipeline.commands.gate import gate
from pipeline.commands.models import models
from pipeline.commands.options import data_option, pipeline_option, places_of, span_of
from pipeline.commands.production import rollback
from pipeline.commands.recommend import recommend
from pipeline.commands.release import release
from pipeline.commands.spans import spans
from pipeline.commands.tune import tune
from pipeline.console import table
from pipeline.places import Places


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """A recommender that keeps itself fresh: run the pipeline, look at runs and models, serve."""


@cli.command()
@click.option("--config", "config_path", type=click.Path(path_type=Path), required=True, help="The YAML file.")
@click.option("--span", help="The newest span to read, a number or a date; by default the newest that has files.")
@data_option
def run(config_path: Path, span: str | None, data_root: str | None) -> None:
    """Run the pipeline for one span: examples, training, verdict, push."""
    from pipeline.config import read_config

    config = read_config(config_path, data_root)
    newest = None if span is None else span_of(span, config.contract.interactions.files)
    from pipeline import local_runner
    from pipeline.snapshot import NEWEST_SPAN

    places = Places.from_environment(config.name)
    try:
        outcome = local_runner.run(config, places, NEWEST_SPAN if newest is None else newest)
    except NothingNew as nothing:
        click.echo(nothing)
        return
    if outcome:
        click.echo(local_runner.tell(outcome))
        sys.exit(1 if outcome.is_failure else 0)


@cli.group()
def runs() -> None:
    """Runs as ML Metadata knows them."""


@runs.command("list")
@pipeline_option
def runs_list(pipeline: str | None) -> None:
    """One line per run, the newest first."""
    from pipeline import runs as history

    rows = [(r.run_id, r.state, f"{r.seconds:.0f} s", str(len(r.nodes))) for r in history.runs(places_of(pipeline))]
    table(("run", "state", "time", "nodes"), rows)


@runs.command("show")
@click.argument("run_id")
@pipeline_option
def runs_show(run_id: str, pipeline: str | None) -> None:
    """The nodes of one run with their artifacts."""
    from pipeline import runs as history

    shown = history.run(places_of(pipeline), run_id)
    rows = [
        (node.id, node.state, f"{node.seconds:.1f} s", "\n".join(a.uri for a in node.outputs.values()) or node.why)
        for node in shown.nodes
    ]
    table(("node", "state", "time", "outputs"), rows)


@cli.command()
@click.option("--port", default=8500, show_default=True, help="gRPC.")
@click.option("--rest-api-port", default=8501, show_default=True, help="REST.")
@click.option("--host", default="127.0.0.1", show_default=True)
@pipeline_option
def serve(port: int, rest_api_port: int, host: str, pipeline: str | None) -> None:
    """Serve the pushed models over TF Serving's API until stopped; new versions are picked up."""
    base_path = places_of(pipeline).serving
    from serving.server import ServerConfig, run_server

    run_server(ServerConfig(model_base_path=base_path, port=port, rest_api_port=rest_api_port, host=host))


@cli.group()
def schema() -> None:
    """The schema that data is held against."""


@schema.command("freeze")
@click.option("--config", "config_path", type=click.Path(path_type=Path), required=True)
@click.option("--to", "folder", type=click.Path(path_type=Path), required=True, help="Becomes schema_dir.")
def schema_freeze(config_path: Path, folder: Path) -> None:
    """Copy the schemas of the newest complete run to a folder, to be reviewed and named as schema_dir."""
    from pipeline import runs as history
    from pipeline.config import read_config

    config = read_config(config_path)
    places = Places.from_environment(config.name)
    for dataset, node_id in (("interactions", "SchemaGen"), ("catalog", "CatalogSchemaGen")):
        nodes = [n for r in history.runs(places) if (n := r.node(node_id)) and "schema" in n.outputs]
        if not nodes:
            raise EvergreenError(f"no run of {config.name} has a schema yet; run the pipeline once, then freeze")
        target = folder / f"{dataset}.pbtxt"
        folder.mkdir(parents=True, exist_ok=True)
        inferred = (Path(nodes[0].outputs["schema"].uri) / "schema.pbtxt").read_text()
        target.write_text(without_id_domains(inferred))
        click.echo(f"wrote {target}")


def without_id_domains(schema_text: str) -> str:
    """Ids and titles keep no list of allowed values: one inferred from small data would refuse the first new id."""
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0 import schema_pb2

    from trainer.features import ITEM_ID_KEY, ITEM_IDS_KEY, TITLE_KEY, USER_ID_KEY

    frozen = text_format.Parse(schema_text, schema_pb2.Schema())
    for feature in frozen.feature:
        if feature.name in (USER_ID_KEY, ITEM_ID_KEY, ITEM_IDS_KEY, TITLE_KEY):
            feature.ClearField(feature.WhichOneof("domain_info") or "domain")
    return text_format.MessageToString(frozen)


for command in (contract, gate, check_freshness, data_age, models, recommend, release, rollback, spans, tune):
    cli.add_command(command)


def add_plugged_in_commands() -> None:
    """Groups of other packages, by the entry points `evergreen.commands`: `kubeflow`, which knows the pipeline."""
    for point in entry_points(group="evergreen.commands"):
        cli.add_command(point.load(), point.name)


def main() -> None:
    """Runs the command; an error meant for a person is one line and exit code 1."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read once, when TensorFlow is imported
    warnings.simplefilter("ignore", FutureWarning)
    add_plugged_in_commands()
    try:
        cli(standalone_mode=True)
    except EvergreenError as error:
        sys.exit(f"error: {error}")
    except Exception as error:
        from serving.errors import ServingError

        if isinstance(error, ServingError):
            sys.exit(f"error: {error}")
        raise


if __name__ == "__main__":
    main()
