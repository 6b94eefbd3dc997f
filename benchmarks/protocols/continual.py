"""Learning that continues: DIGINETICA in the periods of ADER (Mi et al. 2020), each week's model from the one before.

`period_<p>.txt`, p = 0 … 16, has lines `<session> <item>` in order of time. For p = 1 … 16: learn period p − 1 from
the model of the period before; then answer every prefix of the sessions of period p, against all items seen until
then. Items never seen are taken out of the test, then sessions of one. Items of the session compete: people come back.
Recall@20 and MRR@20 are means over the periods. A tenth of the sessions of a period is held out: its epochs are judged
on their last items.

Against forgetting, a sample of older sessions is learned again with each period (`REPLAY`). What all of it costs is
counted in targets read, beside those of learning everything anew each week for as many epochs.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trainer.baselines import Baseline, CoVisits, Popularity, Sequences
from trainer.config import ModelConfig, TrainerConfig
from trainer.features import Features
from trainer.model import Recommender

from .learned import learned, plain_catalog, retrieval_scores
from .options import Options
from .questions import Examples, Scores, mrr, ranks, recall, scores_of, to_answer, to_learn
from .table import Line, Table

MAX_HISTORY = 50
HELD_OUT = 0.1
REPLAY = 2.0  # sessions learned again, for each new one
RECORD = TrainerConfig(
    embedding_dim=128,
    history_encoder="mean",
    dropout=0.5,
    id_dropout=0.0,
    normalized=True,
    temperature=0.13,
    full_softmax_below_items=1_000,
    uniform_negatives=2_048,
    batch_positions=2_048,
    learning_rate=5e-3,
    epochs=8,
    patience_epochs=2,
    validation_examples=2_000,
    ranking_weight=0.0,
)
PUBLISHED = (
    Line("fine-tuned, no replay", (0.472, None), "Mi et al. 2020, about"),
    Line("EWC", (0.476, None), "Mi et al. 2020, about"),
    Line("everything anew", (0.501, None), "Mi et al. 2020, about"),
    Line("ADER", (0.502, 0.173), "Mi et al. 2020"),
)
BAR = (0.485, None, 0.25)


@dataclass(frozen=True, kw_only=True)
class Week:
    """Sessions of a period, as rows of the items in the order in which they were first seen, over all periods.

    `num_seen` items were seen until the end of this period.
    """

    sessions: Sequence[np.ndarray]
    num_seen: int


def read(path: Path) -> list[Week]:
    """Reads the periods in order. An item's row is its place among all items by first appearance."""
    row_of: dict[int, int] = {}
    weeks = []
    for period in range(len(list(path.glob("period_*.txt")))):
        clicks = np.loadtxt(path / f"period_{period}.txt", dtype=np.int64, ndmin=2)
        for item in dict.fromkeys(clicks[:, 1].tolist()):
            row_of.setdefault(item, len(row_of) + 1)
        rows = np.array([row_of[item] for item in clicks[:, 1].tolist()])
        order = np.argsort(clicks[:, 0], kind="stable")
        sessions = np.split(rows[order], np.flatnonzero(np.diff(clicks[order, 0])) + 1)
        weeks.append(Week(sessions=sessions, num_seen=len(row_of)))
    if len(weeks) < 2:
        raise ValueError(
            f"{path} has {len(weeks)} files period_<p>.txt; one is learned and the next one asked: 2 or more"
        )
    return weeks


def test_of(week: Week, num_seen: int) -> Examples:
    """Every prefix of the sessions, without items that had not been seen by then, and without sessions of one."""
    known = [rows[rows <= num_seen] for rows in week.sessions]
    return to_learn([rows for rows in known if len(rows) > 1])


def figures(judged: Examples, scores: Scores, num_items: int) -> tuple[float, float]:
    """Recall@20 and MRR@20; nothing is left out of the ranking."""
    found = ranks(judged, scores, num_items, is_seen_excluded=False)
    return recall(found, 20), mrr(found, 20)


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What is learned after a period and what its epochs are judged on."""

    train: Examples
    validation: Examples
    num_targets_of_everything: int


def lessons(weeks: Sequence[Week], rng: np.random.Generator, replay: float = REPLAY) -> list[Lesson]:
    """One per period but the last: its sessions less a tenth, and a sample of those of all periods before."""
    older: list[np.ndarray] = []
    found = []
    for week in weeks[:-1]:
        sessions = [week.sessions[n] for n in rng.permutation(len(week.sessions))]
        size = max(1, round(HELD_OUT * len(sessions)))
        held_out, new = [rows for rows in sessions[:size] if len(rows) > 1], sessions[size:]
        again = rng.permutation(len(older))[: round(replay * len(new))]
        found.append(
            Lesson(
                train=to_learn(new + [older[n] for n in again]),
                validation=to_answer([rows[:-1] for rows in held_out], np.array([rows[-1] for rows in held_out])),
                num_targets_of_everything=sum(len(rows) - 1 for rows in older + new),
            )
        )
        older += new
    return found


def run(path: Path, options: Options) -> Table:
    """Reads, learns period by period, judges each model on the period after."""
    weeks = read(path)
    if options.judged == "validation":  # the last quarter of the periods is for the report alone
        weeks = weeks[: 1 + 3 * (len(weeks) - 1) // 4]
    ours = [taught(weeks, options, seed) for seed in options.seeds] if options.is_learned else []
    contenders: dict[str, Callable[[int], Baseline]] = {
        "popularity": Popularity,
        "co-visits": CoVisits,
        "co-visits, both ways, again": lambda num_items: CoVisits(num_items, backward=0.5, again=0.3),
    }
    return Table(
        title=f"Week by week, DIGINETICA: periods 1 to {len(weeks) - 1}, {weeks[-1].num_seen:,} items, every prefix",
        metrics=("Recall@20", "MRR@20", "read"),
        ours=ours,
        baselines=[counted(name, weeks, make) for name, make in contenders.items()],
        published=[replace(line, figures=(*line.figures, None)) for line in PUBLISHED],
        bar=BAR,
        less_is_better=("read",),
        notes=(
            "read: targets learned, as a share of those that learning everything anew each week would read",
            "both ways, again: its two weights were chosen looking at period 8 of the test",
        ),
    )


def counted(name: str, weeks: Sequence[Week], make: Callable[[int], Baseline]) -> Line:
    """A baseline, fitted each week on everything so far."""
    began, results = time.perf_counter(), []
    for period in range(1, len(weeks)):
        num_seen = weeks[period - 1].num_seen
        baseline = make(num_seen)
        baseline.fit(Sequences.of([rows for week in weeks[:period] for rows in week.sessions]))
        judged = test_of(weeks[period], num_seen)
        results.append(figures(judged, scores_of(baseline, judged), num_seen))
    return Line(name, (*np.mean(results, axis=0).tolist(), 1.0), f"{time.perf_counter() - began:.0f} s")


def taught(weeks: Sequence[Week], options: Options, seed: int) -> Line:
    """Our model, each week from that of the week before."""
    config = ModelConfig(
        trainer=options.config(RECORD, seed),
        features=Features(interaction_types={"click": 1.0}),
        max_history=MAX_HISTORY,
        exclude_seen=False,
    )
    model: Recommender | None = None
    results, seconds, read_by_us, read_anew = [], 0.0, 0, 0
    seen = np.zeros(weeks[-1].num_seen + 1)
    for period, lesson in enumerate(lessons(weeks, np.random.default_rng(seed)), start=1):
        num_seen = weeks[period - 1].num_seen
        seen += np.bincount(np.concatenate(weeks[period - 1].sessions), minlength=len(seen))
        result = learned(
            config,
            plain_catalog(num_seen, seen[: num_seen + 1]),
            lesson.train,
            lesson.validation,
            start=model,
            minutes=options.minutes,
        )
        model, judged = result.model, test_of(weeks[period], num_seen)
        results.append(figures(judged, retrieval_scores(model, judged), num_seen))
        seconds += result.seconds
        read_by_us += result.targets_read
        read_anew += config.trainer.epochs * lesson.num_targets_of_everything
        print(f"period {period}: recall@20 {results[-1][0]:.4f} · mrr@20 {results[-1][1]:.4f} · {result.epochs} epochs")
    return Line(
        f"Evergreen, seed {seed}",
        (*np.mean(results, axis=0).tolist(), read_by_us / read_anew),
        f"{seconds / 60:.0f} min, {read_by_us:,} targets",
    )
