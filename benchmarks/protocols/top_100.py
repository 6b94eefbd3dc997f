"""MovieLens 100K as TFRS's retrieval tutorial judges it: a random fifth of the ratings, is the film among 100?

Every rating is an interaction, whatever it says. Each held-out one is asked for by itself, against all films: as the
tutorial does it, with the films of the user's train part in the ranking, and, in the second column, without. A user's
history is all of the train part, which the random split mixes with what is asked; so it has no order here.
"""

import time
from pathlib import Path

import numpy as np

from trainer.baselines import Baseline, CoVisits, Popularity
from trainer.config import ModelConfig, TrainerConfig
from trainer.features import Features

from .als import IS_INSTALLED, Als
from .ease import Ease
from .learned import Learned, learned, plain_catalog, retrieval_scores
from .ml_100k import ITEM_FEATURES, USER_FEATURES, Ratings, Split, by_user, read, split
from .options import Options
from .questions import Examples, Scores, ranks, recall, scores_of, to_answer, to_learn
from .table import Line, Table

MAX_HISTORY = 256
RECORD = TrainerConfig(
    embedding_dim=128,
    history_encoder="mean",
    dropout=0.4,
    id_dropout=0.0,
    normalized=True,
    temperature=0.1,
    batch_positions=1_024,
    learning_rate=2e-3,
    epochs=20,
    patience_epochs=None,
    validation_examples=2_000,
    ranking_weight=0.0,
)
PUBLISHED = (
    Line("TFRS tutorial, basic", (0.2325, None), "published"),
    Line("TFRS tutorial, deep", (0.30, None), "published"),
)
BAR = (0.40, 0.617)


def questions(ratings: Ratings, parts: Split, max_history: int | None = None, has_features: bool = False) -> Examples:
    """One per held-out rating: what its user rated in the train part, and the film."""
    histories = by_user(ratings, parts.train, ratings.item)
    if max_history is not None:
        histories = [rows[-max_history:] for rows in histories]
    users = ratings.user[parts.asked]
    described = {name: values[users] for name, values in ratings.users.items()} if has_features else {}
    return to_answer([histories[user] for user in users], ratings.item[parts.asked], users=described)


def figures(judged: Examples, scores: Scores, num_items: int) -> tuple[float, float]:
    """Top-100 accuracy with and without the films that the user rated in the train part."""
    with_seen, without = (ranks(judged, scores, num_items, is_seen_excluded=seen) for seen in (False, True))
    return recall(with_seen, 100), recall(without, 100)


def run(path: Path | None, options: Options) -> Table:
    """Reads, learns, judges; baselines on the split of the first seed."""
    ratings = read(path)
    ours = []
    for seed in options.seeds if options.is_learned else ():
        parts = split(len(ratings.rating), options.judged, seed)
        for has_features in (False, True) if options.has_features else (False,):
            result = teach(ratings, parts, options, seed, has_features)
            recent = questions(ratings, parts, MAX_HISTORY, has_features)
            scores = retrieval_scores(result.model, recent)
            name = f"Evergreen{', features' if has_features else ''}, seed {seed}"
            found = figures(questions(ratings, parts), scores, ratings.num_items)
            ours.append(Line(name, found, f"{result.seconds:.0f} s, {result.epochs} epochs"))
    return Table(
        title=f"Top 100, MovieLens 100K ({options.judged}): {ratings.num_items:,} films, random split",
        metrics=("top-100", "seen left out"),
        ours=ours,
        baselines=baselines(ratings, split(len(ratings.rating), options.judged, options.seeds[0])),
        published=PUBLISHED,
        bar=BAR,
    )


def baselines(ratings: Ratings, parts: Split) -> list[Line]:
    """Fitted on the train part."""
    known = to_learn(by_user(ratings, parts.train, ratings.item)).sequences
    judged, lines = questions(ratings, parts), []
    contenders: list[Baseline] = [
        Popularity(ratings.num_items),
        CoVisits(ratings.num_items),
        Ease(ratings.num_items, regularization=300.0),
    ]
    if IS_INSTALLED:
        contenders.append(Als(ratings.num_items, factors=32, regularization=0.1, alpha=2.0))
    for contender in contenders:
        began = time.perf_counter()
        contender.fit(known)
        found = figures(judged, scores_of(contender, judged), ratings.num_items)
        lines.append(Line(contender.name, found, f"{time.perf_counter() - began:.1f} s"))
    return lines


def teach(ratings: Ratings, parts: Split, options: Options, seed: int, has_features: bool = False) -> Learned:
    """One training on the train part; an epoch is judged on a sample of what is asked, which decides nothing."""
    declared = Features(
        user=USER_FEATURES if has_features else (),
        item=ITEM_FEATURES if has_features else (),
        interaction_types={"rating": 1.0},
    )
    config = ModelConfig(trainer=options.config(RECORD, seed), features=declared, max_history=MAX_HISTORY)
    train = to_learn(by_user(ratings, parts.train, ratings.item), users=ratings.users if has_features else {})
    popularity = np.bincount(train.sequences.rows, minlength=ratings.num_items + 1)
    sample = np.random.default_rng(0).permutation(len(parts.asked))[: config.trainer.validation_examples]
    shown = Split(train=parts.train, asked=parts.asked[sample])
    return learned(
        config,
        plain_catalog(
            ratings.num_items,
            popularity,
            ratings.items if has_features else {},
            ratings.item_vocabularies if has_features else {},
        ),
        train,
        questions(ratings, shown, MAX_HISTORY, has_features),
        side_vocabularies=ratings.user_vocabularies if has_features else {},
        minutes=options.minutes,
        has_order=False,
    )
