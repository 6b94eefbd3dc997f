"""The doorway, opened as TFX opens it: the executor gets artifacts and parameters, stock readers read the result."""

import json
from pathlib import Path

import pytest
import tensorflow as tf
from pydantic import TypeAdapter
from tfx.components.util import examples_utils, tfxio_utils
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types.artifact import Artifact
from tfx.types.standard_artifacts import Examples

from components.artifacts import Production, UserState
from components.errors import DataError
from components.interaction_example_gen.component import InteractionExampleGen
from components.interaction_example_gen.contract import DataContract, ExamplesConfig, InteractionsContract
from components.interaction_example_gen.plan import make_plan


def execute(root: Path, out: Path) -> dict[str, Artifact]:
    """Runs the component's executor on `root` and returns its outputs by name."""
    production = Production()
    production.uri = str(out / "production")
    (out / "production").mkdir()
    (out / "production/production.json").write_text('{"start_version": null, "learned_until_seconds": 0}')
    outputs: dict[str, Artifact] = {"state": UserState()}
    outputs["state"].uri = str(out / "state")
    for name in ("examples", "catalog", "users"):
        outputs[name] = Examples()
        outputs[name].uri = str(out / name)
    contract = DataContract(interactions=InteractionsContract(types={"view": 1.0}))
    config = ExamplesConfig(window_spans=1, num_shards=2)
    executor = InteractionExampleGen.EXECUTOR_SPEC.executor_class(
        BaseBeamExecutor.Context(beam_pipeline_args=[], tmp_dir=str(out), unique_id="1")
    )
    executor.Do(
        {"production": [production]},
        {name: [artifact] for name, artifact in outputs.items()},
        {
            "span": 2,
            "plan": make_plan(str(root), contract, config, 2).to_json(),
            "data_root": str(root),
            "contract": TypeAdapter(DataContract).dump_json(contract).decode(),
            "config": TypeAdapter(ExamplesConfig).dump_json(config).decode(),
        },
    )
    return outputs


def write_log(root: Path, rows: list[str]) -> None:
    (root / "spans/2").mkdir(parents=True)
    (root / "spans/2/log.csv").write_text("\n".join(["user_id,item_id,interaction_type,timestamp", *rows]) + "\n")
    (root / "items.csv").write_text("item_id\na\nb\nc\n")


def test_the_artifacts_are_what_stock_components_read(tmp_path: Path) -> None:
    write_log(tmp_path / "data", [f"u{n % 3},{'ab'[n % 2]},view,{n}" for n in range(20)])
    outputs = execute(tmp_path / "data", tmp_path)
    examples = outputs["examples"]
    assert (examples.splits, examples.span) == (["train", "eval"], 2)
    assert {outputs[name].split_names for name in ("catalog", "users")} == {'["all"]'}
    assert examples_utils.get_payload_format_string(examples) == "FORMAT_TF_EXAMPLE"

    summary = json.loads((tmp_path / "examples/summary.json").read_text())
    # cut: the 19th of 0 … 19, 18
    assert (summary["train_targets"], summary["eval_examples"], summary["learned_until_seconds"]) == (18, 2, 0)
    assert json.loads((tmp_path / "state/lineage.json").read_text())["spans"]["2"]["rows_accepted"] == 20
    keys = {"user_id", "item_ids", "interaction_types", "timestamps", "is_target"}
    for name, split, count, columns in (
        ("examples", "train", summary["train_examples"], keys),
        ("examples", "eval", 2, keys),
        ("users", "all", 3, keys - {"is_target"}),
        ("catalog", "all", 3, {"item_id", "popularity"}),
    ):
        (pattern,) = examples_utils.get_split_file_patterns([outputs[name]], split)
        records = list(tf.data.TFRecordDataset(tf.io.gfile.glob(pattern), "GZIP"))
        assert len(records) == count
        parsed = tf.io.parse_example(records, {key: tf.io.RaggedFeature(_dtype(key)) for key in columns})
        assert {key for key, value in parsed.items() if value.flat_values.shape[0]} == columns
        factory = tfxio_utils.get_tfxio_factory_from_artifact([outputs[name]], telemetry_descriptors=["test"])
        assert factory(pattern) is not None


def test_an_error_arrives_as_it_is(tmp_path: Path) -> None:
    write_log(tmp_path / "data", ["u1,a,view,1700000000000"])
    with pytest.raises(DataError, match=r"^spans/2/log.csv:2: column 'timestamp' .*milliseconds$") as caught:
        execute(tmp_path / "data", tmp_path)
    assert "Traceback" not in str(caught.value)


def _dtype(key: str) -> tf.DType:
    return {"timestamps": tf.int64, "is_target": tf.int64, "popularity": tf.float32}.get(key, tf.string)
