"""How old may data and model be? Small trainings on several windows, half-lives and ages, judged on the newest data.

    one build of the largest window ─▶ trials ─┬─ windows     the last 1, 2, 4, … spans
                                               ├─ half-lives  the largest window, older targets lighter
                                               └─ ages        one window, that ended 1, 2, … spans ago
                                                     └▶ Findings: figures and a recommendation

Windows end where the eval part of the newest span begins. A model of a shorter window sees the histories of that window
alone, in training and when it is judged, as in a run with that `window_spans`; an old model is judged with today's.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from components.interaction_example_gen.span_pattern import SpanPattern
from pipeline.config import PipelineConfig
from pipeline.data_age.recommendation import Judge, Recommendation, Training, recommend, spans
from trainer.config import ModelConfig

WINDOWS = (1, 2, 4, 8)
HALF_LIVES = (None, 7.0, 30.0)
# Small: what counts is how the trainings compare. ML-100K's four spans in 32 dimensions: 5 epochs at three times the
# configured rate reach recall@10 0.154, 10 at the configured one 0.128 (2026-11-21).
MAX_DIM, MAX_EPOCHS, FASTER, MAX_JUDGED = 32, 5, 3.0, 20_000


@dataclass(frozen=True, kw_only=True)
class Findings:
    """All trainings, and what they are held against. `settings` are those of the small models."""

    span: str
    k: int
    trainings: list[Training]
    popularity_hits: np.ndarray
    judge: Judge
    recommendation: Recommendation
    settings: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which trainings, as (window, half-life, age): windows ascend, and so do ages, all of them above 0."""

    windows: tuple[int, ...]
    half_lives: tuple[float | None, ...]
    aged_window: int
    ages: tuple[int, ...]

    def __iter__(self) -> Iterator[tuple[int, float | None, int]]:
        yield from ((window, None, 0) for window in self.windows)
        yield from ((self.windows[-1], days, 0) for days in self.half_lives if days is not None)
        yield from ((self.aged_window, None, age) for age in self.ages)


def plan_of(windows: Sequence[int], half_lives: Sequence[float | None], available: int) -> Plan:
    """What can be tried with so many spans: larger windows shrink to what is there.

    Ages are tried with the largest window that leaves as many spans again, so that old and new models learn as much.
    """
    sizes = sorted({min(window, available) for window in windows})
    aged = max((size for size in sizes if 2 * size <= sizes[-1]), default=sizes[0])
    ages = tuple(size for size in sizes if size <= sizes[-1] - aged)
    return Plan(windows=tuple(sizes), half_lives=tuple(dict.fromkeys(half_lives)), aged_window=aged, ages=ages)


def find_out(
    config: PipelineConfig,
    *,
    span: int | None = None,
    windows: Sequence[int] = WINDOWS,
    half_lives: Sequence[float | None] = HALF_LIVES,
    say: Callable[[str], None] = print,
) -> Findings:
    """Trains and judges; `say` gets a line per training as it goes. `span`: the newest to read; None: that there is.

    Raises:
      DataError: the span has no files, or its data cannot be used.
      DataStopped: there is nothing to learn before the eval part.
    """
    from pipeline.examples import newest, prepare  # Beam and TensorFlow, only where the work is done
    from trainer.trial import Trial, Trials

    pattern = SpanPattern(config.contract.interactions.files)
    span, available = newest(config, span)
    plan, model, k = plan_of(windows, half_lives, available), small(config), config.index.top_k
    with TemporaryDirectory(prefix="data-age-") as folder:
        say(f"  span {pattern.label(span)} · the last {spans(plan.windows[-1])}")
        # Every interaction of the largest window before the eval cut is a target.
        examples = replace(config.examples, window_spans=plan.windows[-1], targets="window", half_life_days=None)
        data = prepare(config, examples, span, Path(folder))
        trials = Trials(
            model,
            train_files=data.files("examples", "train"),
            eval_files=data.files("examples", "eval"),
            transform_graph=data.graph("examples"),
            catalog_files=data.files("catalog", "all"),
            catalog_transform_graph=data.graph("catalog"),
            cut_seconds=data.cut_seconds,
            max_judged=MAX_JUDGED,
        )
        judge = Judge(trials.user_ids, f"recall@{k}")
        say(row("window", "half-life", "age", "targets", judge.metric, "95%", "time"))
        trainings = []
        for window, days, age in plan:
            started = time.perf_counter()
            trial = Trial(
                from_seconds=data.start_seconds(span - age - window + 1),
                until_seconds=data.start_seconds(span - age + 1) if age else data.cut_seconds,
                served_from_seconds=data.start_seconds(span - window + 1),
                half_life_days=days,
            )
            ranks, targets = trials.train_and_judge(trial)
            training = Training(
                window_spans=window,
                half_life_days=days,
                age_spans=age,
                targets=targets,
                hits=(ranks <= k).astype(np.float32),
                seconds=time.perf_counter() - started,
            )
            trainings.append(training)
            say(row(*cells(training, judge)))
        popularity_hits = (trials.popularity_ranks() <= k).astype(np.float32)
    say(row("popularity", "", "", "", *figure(popularity_hits, judge), ""))
    return Findings(
        span=pattern.label(span),
        k=k,
        trainings=trainings,
        popularity_hits=popularity_hits,
        judge=judge,
        recommendation=recommend(trainings, popularity_hits, judge),
        settings={
            "embedding_dim": model.trainer.embedding_dim,
            "steps": trials.steps,
            "judged": len(popularity_hits),
            "users": len(np.unique(trials.user_ids)),
        },
    )


def small(config: PipelineConfig) -> ModelConfig:
    """The configured model with fewer dimensions, and fewer epochs at a higher rate."""
    trainer = config.trainer
    dim, epochs = min(trainer.embedding_dim, MAX_DIM), min(trainer.epochs, MAX_EPOCHS)
    rate = FASTER * trainer.learning_rate
    return replace(config.model, trainer=replace(trainer, embedding_dim=dim, epochs=epochs, learning_rate=rate))


def cells(training: Training, judge: Judge) -> tuple[str, ...]:
    """A training as the row of a table."""
    days = "none" if training.half_life_days is None else f"{training.half_life_days:g} days"
    figures = figure(training.hits, judge)
    age, seconds = str(training.age_spans), f"{training.seconds:.1f} s"
    return str(training.window_spans), days, age, f"{training.targets:,}", *figures, seconds


def figure(hits: np.ndarray, judge: Judge) -> tuple[str, str]:
    """The mean of hits [E], and its interval."""
    low, high = judge.interval(hits)
    return f"{hits.mean():.4f}", f"{low:.4f}–{high:.4f}"


def row(*cells: str) -> str:
    """Cells that line up below each other."""
    widths = (10, 10, 5, 12, 12, 17, 9)
    return " " + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
