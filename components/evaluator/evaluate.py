"""Judges the new servable against the one in production, on the same newest examples, with TFMA.

TFMA does the metrics on every slice; this module gives it the table of what each servable answered.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import apache_beam as beam
import numpy as np
import pandas as pd
import pyarrow as pa
import tensorflow_model_analysis as tfma

from components.evaluator.config import EvaluationConfig
from components.evaluator.intervals import Interval, intervals
from components.evaluator.roc import roc_curve
from components.evaluator.score import held_out_facts, score
from components.evaluator.verdict import Verdict, read_verdict

log = logging.getLogger("evergreen.evaluator")
NEW, BASELINE, POPULARITY = "new", "baseline", "popularity"
RANK_METRICS = (("recall@10", "RecallAtK", 10), ("recall@100", "RecallAtK", 100), ("ndcg@10", "NDCGAtK", 10))
SLICES = ("user", "item")
METRICS_MODULE = "components.evaluator.rank_metrics"
ROC_NAME = "roc.json"


def evaluate(
    pipeline: beam.Pipeline,
    servable_path: Path,
    baseline_path: Path | None,
    eval_files: Sequence[str],
    strongest_type: str,
    config: EvaluationConfig,
    output_path: Path,
) -> Verdict:
    """Writes TFMA's results and the ROC curve to `output_path`; returns the verdict.

    Without a baseline, the floors alone decide.
    """
    new = score(servable_path, eval_files, config.max_examples)
    baseline = score(baseline_path, eval_files, config.max_examples) if baseline_path else None
    facts = held_out_facts(eval_files, config.max_examples)
    return judge_table(comparison_table(new, baseline, facts, strongest_type, config), config, pipeline, output_path)


def judge_table(table: pd.DataFrame, config: EvaluationConfig, pipeline: beam.Pipeline, output_path: Path) -> Verdict:
    """`evaluate` on what the models answered (comparison_table)."""
    eval_config = evaluation_spec(config, has_baseline=f"{BASELINE}_rank" in table, table=table)
    batch = pa.RecordBatch.from_pandas(table.drop(columns="user_id"), preserve_index=False)
    rows = pa.RecordBatch.from_arrays(
        [pa.array([[value] for value in column.to_pylist()]) for column in batch.columns], batch.schema.names
    )
    with pipeline:
        _ = (
            pipeline
            | beam.Create([rows], reshuffle=False)
            | tfma.ExtractEvaluateAndWriteResults(eval_config=eval_config, output_path=str(output_path))
        )
    curve = roc_curve(table["is_strongest"].to_numpy(), table["new_strongest"].to_numpy())
    (output_path / ROC_NAME).write_text(json.dumps(curve))
    strongest = table["is_strongest"]
    one_class = [name for name, mask in slices_of(table).items() if strongest[mask].nunique() < 2]
    return read_verdict(output_path, len(table), config, table_intervals(table, config), one_class)


def comparison_table(
    new: pd.DataFrame, baseline: pd.DataFrame | None, facts: pd.DataFrame, strongest_type: str, config: EvaluationConfig
) -> pd.DataFrame:
    """One row per eval example: what each model answered, and the slices that the example belongs to."""
    head = config.head_item_fraction * max(1.0, new["target_popularity"].max())
    table = pd.DataFrame(
        {
            "user_id": facts["user_id"],
            "new_rank": new["rank"],
            "new_strongest": new["strongest_probability"],
            "popularity_rank": new["popularity_rank"],
            "is_strongest": (facts["type"] == strongest_type.encode()).astype(np.float32),
            "user": np.where(new["history_length"] < config.new_user_interactions, "new", "returning"),
            "item": np.where(new["target_popularity"] <= head, "head", "tail"),
        }
    )
    if baseline is not None:
        table["baseline_rank"] = baseline["rank"]
        table["baseline_strongest"] = baseline["strongest_probability"]
    return table


def table_intervals(table: pd.DataFrame, config: EvaluationConfig) -> dict[tuple[str, str, str], Interval]:
    """Intervals for every slice and model of the table."""
    models = [name for name in (NEW, BASELINE, POPULARITY) if f"{name}_rank" in table]
    return intervals(table, models, slices_of(table), config.bootstrap_resamples)


def slices_of(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Which rows are in which slice, by the name that TFMA's results have: masks [E]."""
    slices = {"overall": np.ones(len(table), bool)}
    for column in SLICES:
        slices |= {f"{column}={value}": (table[column] == value).to_numpy() for value in table[column].unique()}
    return slices


def evaluation_spec(config: EvaluationConfig, has_baseline: bool, table: pd.DataFrame) -> tfma.EvalConfig:
    """TFMA's configuration: models, metrics with their bounds, slices."""
    names = [NEW, BASELINE] if has_baseline else [NEW]
    slices = [tfma.SlicingSpec(feature_keys=[column]) for column in SLICES]
    spec = tfma.EvalConfig(slicing_specs=[tfma.SlicingSpec(), *slices])
    for name in names:
        model = spec.model_specs.add(name=name, is_baseline=name == BASELINE)
        model.prediction_keys.update({"rank": f"{name}_rank", "strongest": f"{name}_strongest"})
        model.label_keys.update({"rank": "is_strongest", "strongest": "is_strongest"})
    popularity = spec.model_specs.add(name=POPULARITY)
    popularity.prediction_keys.update({"rank": "popularity_rank"})
    popularity.label_keys.update({"rank": "is_strongest"})
    rank_metrics = [
        tfma.MetricConfig(class_name=cls, module=METRICS_MODULE, config=f'{{"name": "{name}", "k": {k}}}')
        for name, cls, k in RANK_METRICS
    ]
    rank_metrics.append(tfma.MetricConfig(class_name="MRR", module=METRICS_MODULE, config='{"name": "mrr"}'))
    spec.metrics_specs.add(model_names=[*names, POPULARITY], output_names=["rank"], metrics=rank_metrics)
    if table["is_strongest"].nunique() > 1:  # with one class there is nothing to tell apart
        metrics = [
            tfma.MetricConfig(class_name="AUC", config='{"name": "auc", "num_thresholds": 200}'),
            tfma.MetricConfig(class_name="BinaryCrossentropy", config='{"name": "log_loss"}'),
            tfma.MetricConfig(class_name="Calibration", config='{"name": "calibration"}'),
        ]
        spec.metrics_specs.add(model_names=names, output_names=["strongest"], metrics=metrics)
    spec.metrics_specs.add(model_names=[NEW], metrics=[tfma.MetricConfig(class_name="ExampleCount")])
    return spec
