"""Several models and versions in one server: model.config, policies, labels, and changes while it serves."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest
from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceStub
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from serving.errors import StartFailed
from serving.model_config import read_model_config
from serving.releases import publish
from serving.server import RunningServer, ServerConfig, start

CONFIG = """
model_config_list {{
  config {{
    name: "recommender"  base_path: "{root}/recommender"  model_platform: "tensorflow"
    model_version_policy {{ {policy} }}
    {labels}
  }}
  {more}
}}
"""
AVAILABLE = 30  # ModelVersionStatus.State
OTHER = 'config {{ name: "other"  base_path: "{root}/other" }}'
STABLE_AND_CANARY = """version_labels {{ key: "stable" value: 7 }} version_labels {{ key: "canary" value: 8 }}"""


class Served:
    """A server over a model.config file, both protocols, and the file to change."""

    def __init__(self, root: Path, models: Callable[[int], Path]) -> None:
        self.root = root
        for name, versions in (("recommender", (6, 7, 8)), ("other", (9,))):
            for version in versions:
                publish(models(version), root / name, version)
        self.file = root / "model.config"
        self.server: RunningServer | None = None

    def text(self, policy: str = "", labels: str = "", more: str = "") -> str:
        labels, more = (part.format(root=self.root) for part in (labels, more))
        return CONFIG.format(root=self.root, policy=policy, labels=labels, more=more)

    def write(self, **parts: str) -> None:
        self.file.write_text(self.text(**parts))

    def start(self, **parts: str) -> None:
        self.write(**parts)
        self.server = start(
            ServerConfig(
                model_config_file=self.file, model_config_poll_seconds=0.05, port=0, rest_api_port=0, poll_seconds=0.05
            )
        )
        self.server.wait_until_ready(30)
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.server.port}")

    def wait_for(self, versions: set[int]) -> None:
        """Until these and no others are in service."""
        deadline = time.monotonic() + 30
        while {v for v, state in self.states().items() if state == AVAILABLE} != versions:
            assert time.monotonic() < deadline, self.states()
            time.sleep(0.02)

    def mark(self, path: str) -> int:
        """Which model answers at a REST path; the code, where it is an error."""
        url = f"http://127.0.0.1:{self.server.rest_api_port}/v1/models/{path}:predict"
        answer = httpx.post(url, json={"instances": [{"user_id": "bob"}]})
        return int(answer.json()["predictions"][0]["scores"][0]) if answer.status_code == 200 else answer.status_code

    def grpc_mark(self, name: str, label: str = "") -> int:
        request = PredictRequest()
        request.model_spec.name = name
        if label:
            request.model_spec.version_label = label
        request.inputs["user_id"].CopyFrom(tf.make_tensor_proto([b"bob"]))
        response = PredictionServiceStub(self.channel).Predict(request, timeout=10)
        assert response.model_spec.version.value == int(response.outputs["scores"].float_val[0])
        return response.model_spec.version.value

    def states(self, name: str = "recommender") -> dict[int, int]:
        request = GetModelStatusRequest()
        request.model_spec.name = name
        response = ModelServiceStub(self.channel).GetModelStatus(request, timeout=10)
        return {status.version: status.state for status in response.model_version_status}

    def reload(self, text: str) -> tuple[int, str]:
        request = ReloadConfigRequest(config=text_format.Parse(text, ModelServerConfig()))
        status = ModelServiceStub(self.channel).HandleReloadConfigRequest(request, timeout=60).status
        return status.error_code, status.error_message


@pytest.fixture
def served(tmp_path: Path, models: Callable[[int], Path]) -> Iterator[Served]:
    served = Served(tmp_path, models)
    yield served
    if served.server:
        served.channel.close()
        served.server.stop()


def test_several_models_by_name_version_and_label(served: Served) -> None:
    served.start(policy="specific { versions: 7 versions: 8 }", labels=STABLE_AND_CANARY, more=OTHER)
    served.wait_for({7, 8})
    paths = {
        "recommender": 8,
        "recommender/versions/7": 7,
        "recommender/versions/6": 404,
        "recommender/labels/stable": 7,
        "recommender/labels/canary": 8,
        "recommender/labels/beta": 400,
        "other": 9,
        "unheard": 404,
        "unheard/labels/stable": 404,
    }
    assert {path: served.mark(path) for path in paths} == paths
    assert [served.grpc_mark(*spec) for spec in (("recommender", "stable"), ("recommender",), ("other",))] == [7, 8, 9]
    with pytest.raises(grpc.RpcError, match="Unrecognized servable version label: beta"):
        served.grpc_mark("recommender", "beta")
    url = f"http://127.0.0.1:{served.server.rest_api_port}/v1/models/recommender/labels/stable"
    assert [v["version"] for v in httpx.get(url).json()["model_version_status"]] == ["7"]
    assert httpx.get(f"{url}/metadata").json()["model_spec"]["version"] == "7"


@pytest.mark.parametrize(
    ("policy", "versions"),
    [("", {8}), ("latest { num_versions: 2 }", {7, 8}), ("all {}", {6, 7, 8}), ("specific { versions: 6 }", {6})],
)
def test_a_policy_says_which_versions_are_served(served: Served, policy: str, versions: set[int]) -> None:
    served.start(policy=policy)
    served.wait_for(versions)
    answers = {version: served.mark(f"recommender/versions/{version}") for version in (6, 7, 8)}
    assert answers == {version: version if version in versions else 404 for version in (6, 7, 8)}
    assert served.mark("recommender") == max(versions)


def test_of_the_two_newest_a_broken_one_is_no_one(served: Served, broken_model: Path) -> None:
    publish(broken_model, served.root / "recommender", 9)
    served.start(policy="latest { num_versions: 2 }")
    served.wait_for({7, 8})
    assert [served.mark(path) for path in ("recommender", "recommender/versions/7")] == [8, 7]


def test_another_list_is_served_when_it_is_sent(served: Served) -> None:
    served.start(policy="specific { versions: 7 }")
    code, said = served.reload(
        served.text(policy="specific { versions: 7 versions: 8 }", labels=STABLE_AND_CANARY, more=OTHER)
    )
    assert (code, said) == (0, "")
    assert [served.mark(p) for p in ("recommender/labels/stable", "recommender/labels/canary", "other")] == [7, 8, 9]
    with served.server.models.lease("recommender", 7) as model:  # a call under way
        assert served.reload(served.text(policy="specific { versions: 8 }"))[0] == 0
        assert model.predict("half_plus_three", {"x": np.array([1.0], np.float32)})["y"].tolist() == [3.5]
    assert [served.mark(p) for p in ("recommender", "recommender/labels/canary", "other")] == [8, 400, 404]
    with pytest.raises(grpc.RpcError, match="Could not find any versions of model other"):
        served.states("other")


def test_a_model_that_moves_is_served_from_its_new_place_without_a_gap(
    served: Served, models: Callable[[int], Path]
) -> None:
    served.start()
    shutil.copytree(served.root / "other", served.root / "moved")
    moved = served.text().replace("/recommender", "/moved")
    assert served.reload(moved) == (0, "")
    assert served.mark("recommender") == 9


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "needs a model_config_list"),
        (
            'model_config_list { config { name: "a" base_path: "/x" model_platform: "torch" } }',
            "'torch'; only tensorflow",
        ),
        ('model_config_list { config { base_path: "/x" } }', "a model name cannot be empty"),
        ('model_config_list { config { name: "a" } }', "a has no base_path"),
        ('model_config_list { config { name: "a" base_path: "/x" } config { name: "a" base_path: "/y" } }', "a twice"),
        (
            'model_config_list { config { name: "a" base_path: "/x" model_version_policy { specific { versions: 1 } }'
            ' version_labels { key: "b" value: 2 } } }',
            r"labels \{'b': 2\} name versions that its policy does not serve: \[1\]",
        ),
    ],
)
def test_a_list_that_cannot_be_served_is_refused_and_nothing_changes(served: Served, text: str, words: str) -> None:
    served.file.write_text(text)
    with pytest.raises(StartFailed, match=words):
        read_model_config(served.file)
    served.start()
    code, said = served.reload(text)
    assert code == 3  # INVALID_ARGUMENT
    assert re.search(words, said)
    assert served.mark("recommender") == 8


def test_text_that_is_no_configuration_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "model.config").write_text("model_config_list {\n  confg { }\n}")
    with pytest.raises(StartFailed, match=r"no ModelServerConfig as protobuf text: 2:3 .*confg"):
        read_model_config(tmp_path / "model.config")
    with pytest.raises(StartFailed, match="No such file"):
        read_model_config(tmp_path / "nowhere")


def test_a_file_that_changes_is_followed_and_a_broken_one_is_not(served: Served) -> None:
    served.start()
    served.file.write_text("model_config_list {")
    time.sleep(0.2)
    assert served.mark("recommender") == 8
    served.write(more=OTHER)
    os.utime(served.file)
    deadline = time.monotonic() + 30
    while served.mark("other") != 9 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [served.mark("recommender"), served.mark("other")] == [8, 9]
