"""What the backend does to artifacts and parameters on their way, and that TFX's executors see none of it."""

import json
from pathlib import Path

import pytest
from tfx.types.standard_artifacts import Examples, Integer, Model

from components.errors import EvergreenError
from evergreen_kubeflow.executor_input import (
    Node,
    artifact_metadata,
    executor_output,
    local_path,
    read_artifacts,
    read_parameters,
    read_values,
)

EXAMPLES = {"examples": "tfx.types.standard_artifacts.Examples"}


def given(**metadata: object) -> dict[str, object]:
    """As the driver hands it over: the instance schema lost, the MLMD id as the name, two keys of its own."""
    own = {"display_name": "examples", "store_session_info": "{}"}
    artifact = {"name": "17", "uri": "minio://mlpipeline/v2/a", "type": {"instanceSchema": ""}}
    return {"examples": {"artifacts": [{**artifact, "metadata": {**metadata, **own}}]}}


def test_a_node_survives_its_json() -> None:
    node = Node("Trainer", "a.B", {"examples": "c.D"}, {"model": "e.F"}, {"span": "int"})
    assert Node.from_json(node.to_json()) == node


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("minio://mlpipeline/v2/a", "/pod/minio/mlpipeline/v2/a"),
        ("s3://bucket/a", "/pod/s3/bucket/a"),
        ("gs://bucket/a", "/pod/gcs/bucket/a"),
        ("/serving/recommender", "/serving/recommender"),
    ],
)
def test_an_object_is_where_the_launcher_put_it(uri: str, path: str) -> None:
    assert local_path(uri, Path("/pod")) == path


def test_an_unknown_store_is_told_with_the_known_ones() -> None:
    with pytest.raises(EvergreenError, match=r"hdfs://x.* known: minio://, s3://, gs://.*pipeline_root"):
        local_path("hdfs://x", Path("/"))


def test_declared_properties_get_their_types_back() -> None:
    (examples,) = read_artifacts(given(span=3.0, split_names='["train", "eval"]'), EXAMPLES, Path("/pod"))["examples"]
    assert isinstance(examples, Examples)
    assert (examples.span, examples.splits) == (3, ["train", "eval"])
    assert examples.uri == "/pod/minio/mlpipeline/v2/a"


def test_custom_properties_are_what_tfx_s_getters_expect() -> None:
    """A blessing that came back as 1.0 once read as 0: nothing was pushed, and nothing said why."""
    (examples,) = read_artifacts(
        given(blessed=1.0, share=0.25, note="x", rows={"list": [1.0, 2.0]}, of={"struct": {"a": 1.0}}),
        EXAMPLES,
        Path("/"),
    )["examples"]
    assert examples.get_int_custom_property("blessed") == 1
    assert examples.get_float_custom_property("share") == 0.25
    assert examples.get_string_custom_property("note") == "x"
    assert examples.get_json_value_custom_property("rows") == [1, 2]
    assert examples.get_json_value_custom_property("of") == {"a": 1}


def test_what_the_backend_added_is_not_handed_on() -> None:
    (examples,) = read_artifacts(given(span=3.0), EXAMPLES, Path("/"))["examples"]
    assert artifact_metadata(examples) == {"span": 3}


def test_an_absent_optional_input_is_an_empty_list() -> None:
    assert read_artifacts({}, EXAMPLES, Path("/")) == {"examples": []}


def test_metadata_is_json_without_null() -> None:
    """The backend dies on null."""
    model = Model()
    model.set_string_custom_property("why", "better")
    model.set_int_custom_property("pushed", 1)
    model.set_json_value_custom_property("curve", [{"recall": 0.5}])
    model.mlmd_artifact.custom_properties["nothing"].SetInParent()
    model.set_float_custom_property("no figure", float("nan"))
    model.set_float_custom_property("no end", float("inf"))
    assert artifact_metadata(model) == {"why": "better", "pushed": 1, "curve": [{"recall": 0.5}]}


def test_parameters_get_their_types_back() -> None:
    types = {"span": "int", "rate": "float", "config": "str", "splits": "tfx.proto.transform_pb2.SplitsConfig"}
    values = {"span": 3.0, "rate": 1, "config": "{}", "splits": '{"analyze": ["train"]}'}
    read = read_parameters(values, types, {})
    assert (read["span"], read["config"], list(read["splits"].analyze)) == (3, "{}", ["train"])
    assert isinstance(read["span"], int)
    assert isinstance(read["rate"], float)


def test_a_secret_comes_from_the_environment() -> None:
    read = read_parameters({"registry_url": "${URL}", "note": "costs $5"}, {}, {"URL": "postgresql://x"})
    assert read == {"registry_url": "postgresql://x", "note": "costs $5"}


def test_a_secret_that_the_pod_lacks_is_told() -> None:
    with pytest.raises(EvergreenError, match=r"registry_url .* URL, which this pod does not have; create the Secret"):
        read_parameters({"registry_url": "${URL}"}, {}, {})


def test_the_output_has_the_backends_uris_and_the_values(tmp_path: Path) -> None:
    slots = {
        "model": {"artifacts": [{"name": "", "uri": "minio://b/model", "type": {}}]},
        "executor-logs": {"artifacts": [{"name": "", "uri": "minio://b/logs"}]},
    }
    outputs = read_artifacts(slots, {"model": "tfx.types.standard_artifacts.Model"}, tmp_path)
    outputs["model"][0].set_int_custom_property("pushed", 1)
    values = read_values({"span": {}}, {"span": "tfx.types.standard_artifacts.Integer"}, tmp_path)
    assert isinstance(values["span"][0], Integer)
    values["span"][0].value = 4
    assert json.loads(json.dumps(executor_output(slots, outputs, values))) == {
        "artifacts": {"model": {"artifacts": [{"name": "", "uri": "minio://b/model", "metadata": {"pushed": 1}}]}},
        "parameterValues": {"span": 4},
    }
