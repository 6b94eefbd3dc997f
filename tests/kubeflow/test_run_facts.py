"""What the UI shows of runs that ended otherwise than in a push; the push itself is in tests/e2e/test_kubeflow.py."""

import json
from pathlib import Path
from typing import Any

import pytest
from tfx.types.artifact import Artifact
from tfx.types.standard_artifacts import InfraBlessing, ModelEvaluation, PushedModel

from evergreen_kubeflow.run_facts import facts_of, figures, verdict_text
from pipeline.report import Facts, artifacts, render, time_spent

ROW = {"slice": "overall", "low": None, "high": None, "popularity": None, "baseline": None, "bound": None}


def put(cls: type[Artifact], path: Path, name: str, document: Any) -> Artifact:
    artifact = cls()
    artifact.uri = str(path)
    path.mkdir()
    (path / name).write_text(json.dumps(document))
    return artifact


@pytest.fixture
def rejected(tmp_path: Path) -> Facts:
    rows = [
        {**ROW, "metric": "recall@10", "value": 0.1, "baseline": 0.2, "low": 0.05, "high": 0.15, "passed": False},
        {**ROW, "metric": "auc", "value": float("nan"), "passed": None},
    ]
    sentence = "recall@10 overall is 0.1000: misses 0.1900"
    verdict = {"is_blessed": False, "sentences": [sentence], "rows": rows, "num_examples": 9, "baseline_version": 7}
    pushed = PushedModel()
    pushed.uri = str(tmp_path / "pushed")
    pushed.set_int_custom_property("pushed", 0)
    blessing = put(InfraBlessing, tmp_path / "infra", "report.json", {"is_blessed": True, "checks": [], "reasons": []})
    return facts_of(
        "run-1",
        '{"name": "shop"}',
        {
            ("Evaluator", "evaluation"): put(ModelEvaluation, tmp_path / "evaluation", "verdict.json", verdict),
            ("ServableValidator", "blessing"): blessing,
            ("Pusher", "pushed_model"): pushed,
        },
    )


def test_a_rejected_model_says_why_and_by_how_much(rejected: Facts) -> None:
    text = verdict_text(rejected)
    assert text.startswith("# Rejected: recall@10 overall is 0.1000: misses 0.1900\n")
    assert "| recall@10 | overall | 0.1000 | 0.0500 – 0.1500 | 0.2000 |  |  | ✗ |" in text
    assert "servable is at" not in text


def test_a_figure_that_is_none_is_no_metric(rejected: Facts) -> None:
    """Null in metadata ends a run of the backend."""
    assert figures(rejected) == {"recall@10": 0.1, "production recall@10": 0.2}
    assert "| auc | overall |  |" in verdict_text(rejected)


def test_the_page_leaves_out_what_the_engine_shows(rejected: Facts) -> None:
    page = render(rejected, "shop", without=(time_spent, artifacts))
    assert "run run-1" in page
    assert '<section id="metrics">' in page
    assert '<section id="time">' not in page
    assert " took " not in page.split("<section")[0]
