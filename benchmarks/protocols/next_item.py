"""Next item, MovieLens 1M as SASRec and its successors have it: the last item of each user, all items in the ranking.

`ml-1m.txt` has lines `<user> <item>` in order of time. Test: the last item of a user; validation: the one before it,
with the last one taken away; everything before these two is learned. A user's whole history does not compete.
With features: genres and year of the films (`movies.dat`), gender, age and job of the users (`users.dat`), by the ids
of `sas_to_original_items.txt` and `sas_to_original_users.txt`.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainer.baselines import CoVisits, Popularity
from trainer.config import ModelConfig, TrainerConfig
from trainer.features import Feature, Features

from .als import IS_INSTALLED, Als
from .categories import many, one
from .learned import Learned, learned, plain_catalog, retrieval_scores
from .options import Options
from .questions import Examples, Scores, ndcg, ranks, recall, scores_of, to_answer, to_learn
from .table import Line, Table

MAX_HISTORY = 200
RECORD = TrainerConfig(
    embedding_dim=64,
    history_encoder="transformer",
    history_blocks=2,
    history_heads=2,
    dropout=0.25,
    id_dropout=0.0,
    normalized=False,
    temperature=1.0,
    batch_positions=6_400,
    learning_rate=1.5e-3,
    warmup_steps=300,
    epochs=40,
    patience_epochs=8,
    validation_examples=6_040,
    ranking_weight=0.0,
)
PUBLISHED = (
    Line("SASRec", (0.2392, 0.1259), "Kang & McAuley 2018, as later papers measure it"),
    Line("BERT4Rec", (0.2821, 0.1516), "Sun et al. 2019, as later papers measure it"),
    Line("gSASRec", (0.3003, 0.1726), "Petrov & Macdonald 2023"),
    Line("eSASRec", (0.3133, 0.1772), "Tikhonovich et al. 2025"),
    Line("SASRec, 3,000 negatives", (0.3159, 0.1857), "Klenitskiy & Vasilev 2023"),
)
BAR = (None, 0.188)


@dataclass(frozen=True, kw_only=True)
class Log:
    """U users' sequences of catalog rows 1..N, and features by row: users [U], items [N + 1]."""

    parts: Sequence[np.ndarray]
    num_items: int


def read(path: Path) -> Log:
    """Reads `ml-1m.txt`; items are numbered from 1 already."""
    pairs = np.loadtxt(path / "ml-1m.txt", dtype=np.int64)
    return Log(parts=by_user(pairs), num_items=int(pairs[:, 1].max()))


def by_user(pairs: np.ndarray) -> list[np.ndarray]:
    """Items of each user, in the order of the lines: [P, 2] → U arrays, users in rising order."""
    order = np.argsort(pairs[:, 0], kind="stable")
    users, items = pairs[order].T
    return np.split(items, np.flatnonzero(np.diff(users)) + 1)


@dataclass(frozen=True, kw_only=True)
class Splits:
    """`last` cuts a question's history to what a request would hold; what is left out of the ranking is not cut."""

    train: Examples
    validation: Examples
    test: Examples


def splits(log: Log, users: dict[str, np.ndarray] | None = None) -> Splits:
    """Leave-one-out, twice. Every user needs three interactions."""
    if short := sum(len(part) < 3 for part in log.parts):
        raise ValueError(f"{short} users have fewer than 3 interactions; one is learned, one chosen on, one tested")
    held_out = np.array([part[-2:] for part in log.parts])
    return Splits(
        train=to_learn([part[:-2] for part in log.parts], users=users),
        validation=to_answer([part[:-2] for part in log.parts], held_out[:, 0], users=users),
        test=to_answer([part[:-1] for part in log.parts], held_out[:, 1], users=users),
    )


def recent(questions: Examples, users: np.ndarray | None = None) -> Examples:
    """The last H interactions before each target, as a request holds them; of some of the users, or all."""
    rows = questions.histories(slice(None), MAX_HISTORY)
    chosen = np.arange(len(rows)) if users is None else users
    return to_answer(
        [row[row > 0] for row in rows[chosen]],
        questions.targets[chosen],
        users={name: values[chosen] for name, values in questions.users.items()},
    )


def features_of(path: Path, log: Log) -> tuple[Features, dict, dict, dict, dict]:
    """Declared features; users' and items' columns; users' and items' vocabularies."""
    original_item = dict(np.loadtxt(path / "sas_to_original_items.txt", dtype=np.int64).tolist())
    original_user = dict(np.loadtxt(path / "sas_to_original_users.txt", dtype=np.int64).tolist())
    films = {int(line[0]): line[1:] for line in _lines(path / "movies.dat")}
    people = {int(line[0]): line[1:] for line in _lines(path / "users.dat")}
    titles, genres = zip(*(films[original_item[row]] for row in range(1, log.num_items + 1)), strict=True)
    years = np.array([float(re.findall(r"\((\d{4})\)", title)[-1]) for title in titles])
    genre_rows, genre_names = many([value.split("|") for value in genres])
    user_columns, user_names = {}, {}
    for column, name in enumerate(("gender", "age", "occupation")):
        values = [people[original_user[user]][column] for user in range(1, len(log.parts) + 1)]
        user_columns[name], user_names[name] = one(values)
    declared = Features(
        user=tuple(Feature(name=name) for name in user_columns),
        item=(Feature(name="genres", type="categories"), Feature(name="year", type="number")),
        interaction_types={"watch": 1.0},
    )
    item_columns = {
        "genres": np.concatenate([np.zeros((1, genre_rows.shape[1]), np.int64), genre_rows]),
        "year": np.append(0, (years - years.mean()) / years.std()).astype(np.float32),
    }
    return declared, user_columns, item_columns, user_names, {"genres": genre_names}


def _lines(path: Path) -> list[list[str]]:
    return [line.split("::") for line in path.read_text(encoding="latin-1").splitlines()]


def run(path: Path, options: Options) -> Table:
    """Reads, learns, judges."""
    log = read(path)
    plain = splits(log)
    judged = plain.test if options.judged == "test" else plain.validation
    ours = []
    for seed in options.seeds if options.is_learned else ():
        for has_features in (False, True) if options.has_features else (False,):
            result, scores = teach(path, log, options, seed, has_features)
            name = f"Evergreen{', features' if has_features else ''}, seed {seed}"
            note = f"{result.seconds / 60:.0f} min, {result.epochs} epochs"
            ours.append(Line(name, figures(judged, scores, log.num_items), note))
    return Table(
        title=f"Next item, MovieLens 1M ({options.judged}): {len(log.parts):,} users, {log.num_items:,} items",
        metrics=("HR@10", "NDCG@10"),
        ours=ours,
        baselines=baselines(plain, judged, log.num_items, options),
        published=PUBLISHED,
        bar=BAR,
    )


def figures(judged: Examples, scores: Scores, num_items: int) -> tuple[float, float]:
    """HR@10 and NDCG@10; the whole history is left out of the ranking."""
    found = ranks(judged, scores, num_items, is_seen_excluded=True)
    return recall(found, 10), ndcg(found, 10)


def baselines(data: Splits, judged: Examples, num_items: int, options: Options) -> list[Line]:
    """Fitted on all that is known when the questions are asked: for the test, the validation items too."""
    known = data.validation.sequences if options.judged == "test" else data.train.sequences
    contenders = [Popularity(num_items), CoVisits(num_items)]
    if IS_INSTALLED:
        contenders.append(Als(num_items, factors=64, regularization=0.01, alpha=1.0))
    lines = []
    for contender in contenders:
        began = time.perf_counter()
        contender.fit(known)
        found = figures(judged, scores_of(contender, judged), num_items)
        lines.append(Line(contender.name, found, f"{time.perf_counter() - began:.1f} s"))
    return lines


def teach(path: Path, log: Log, options: Options, seed: int, has_features: bool) -> tuple[Learned, Scores]:
    """One training, judged on validation as it goes; the scores it gives to the questions."""
    declared, users, items = Features(interaction_types={"watch": 1.0}), {}, {}
    user_names: dict[str, np.ndarray] = {}
    item_names: dict[str, np.ndarray] = {}
    if has_features:
        declared, users, items, user_names, item_names = features_of(path, log)
    data = splits(log, users)
    config = ModelConfig(trainer=options.config(RECORD, seed), features=declared, max_history=MAX_HISTORY)
    popularity = np.bincount(data.train.sequences.rows, minlength=log.num_items + 1)
    chosen = np.random.default_rng(0).permutation(len(log.parts))[: config.trainer.validation_examples]
    result = learned(
        config,
        plain_catalog(log.num_items, popularity, items, item_names),
        data.train,
        recent(data.validation, chosen),
        side_vocabularies=user_names,
        minutes=options.minutes,
    )
    return result, retrieval_scores(result.model, recent(data.test if options.judged == "test" else data.validation))
