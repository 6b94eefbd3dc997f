"""No skew: what a model server answers for a raw user id is what the Trainer's model says of the raw example."""

from pathlib import Path

import pytest

from tests.e2e.story import Story

pytestmark = pytest.mark.slow


def test_what_is_served_is_what_was_trained(story: Story) -> None:
    from benchmarks.parity import compare

    node = story.run("second").node("IndexBuilder")
    places = {name: Path(artifact.uri) for name, artifact in {**node.inputs, **node.outputs}.items()}
    found = compare(places["model"] / "Format-Serving", places["users"] / "Split-all", places["servable"], 60)
    assert sorted(found) == ["served, REST", "served, gRPC", "the Trainer's model as a graph"]
    for path, differences in found.items():
        assert max(differences) < 1e-4, path
