"""Two towers on Gowalla, in the split of LightGCN (He et al. 2020): full ranking, Recall@20 and NDCG@20.

`train_from_s_adj_mat.txt` and `test.txt` have lines `<user> <item> <item> …`; items are in no order, so a history is a
set: it is shuffled every epoch, and each item is predicted from those that happen to stand before it. To choose, a
fifth of each user's train items is held out; for the test, all train items are learned and are the history.

The published split is not drawn evenly: the most popular items have a Recall@20 of .042 there, and of .027 where a
random fifth is held out. So the fifth that is held out here leans to popular items as much (`LEANING`).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainer.baselines import Popularity
from trainer.config import ModelConfig, TrainerConfig
from trainer.features import Features

from .als import IS_INSTALLED, Als
from .learned import Learned, learned, plain_catalog, retrieval_scores
from .options import Options
from .questions import Examples, Scores, recall_and_ndcg_of_lists, scores_of, to_answer, to_learn
from .table import Line, Table

MAX_HISTORY = 256
HELD_OUT = 0.2
LEANING = 0.2  # an item is held out with odds of its count to this power: popularity has .042 then
RECORD = TrainerConfig(
    embedding_dim=128,
    history_encoder="mean",
    hidden_ratio=0,
    embedding_l2=3e-5,
    id_dropout=0.0,
    normalized="queries",
    temperature=0.1,
    full_softmax_below_items=1_000,
    uniform_negatives=2_048,
    batch_positions=2_048,
    learning_rate=4e-3,
    epochs=12,
    patience_epochs=None,
    validation_examples=2_000,
    ranking_weight=0.0,
)
PUBLISHED = (
    Line("YoutubeDNN", (0.1754, 0.1473), "best published two towers"),
    Line("EASE", (0.1765, 0.1467), "Steck 2019, as later papers measure it"),
    Line("LightGCN", (0.1820, 0.1547), "He et al. 2020"),
    Line("SimpleX", (0.1872, 0.1557), "Mao et al. 2021"),
)
BAR = (0.1755, None)


@dataclass(frozen=True, kw_only=True)
class Split:
    """Catalog rows 1..N: what each user's history holds, and what is asked for; users without a question have none."""

    histories: Sequence[np.ndarray]
    answers: Sequence[np.ndarray]
    num_items: int


def read(path: Path) -> Split:
    """Reads the published split; items are numbered from 0 there, and a line has them by number: here they are mixed.

    So a history that is asked is as one that is learned, also where only H of its items are read.
    """
    train, test = _lists(path / "train_from_s_adj_mat.txt"), _lists(path / "test.txt")
    users = sorted(set(train) | set(test))
    nothing = np.zeros(0, np.int64)
    rng = np.random.default_rng(0)
    histories = [rng.permutation(train.get(user, nothing)) for user in users]
    answers = [test.get(user, nothing) for user in users]
    return Split(
        histories=histories, answers=answers, num_items=int(max(rows.max(initial=0) for rows in histories + answers))
    )


def _lists(path: Path) -> dict[int, np.ndarray]:
    lines = (np.array(line.split(), dtype=np.int64) for line in path.read_text(encoding="ascii").splitlines())
    return {int(line[0]): line[1:] + 1 for line in lines if len(line)}


def held_out(split: Split, seed: int = 0) -> Split:
    """A fifth of each user's history, at least one item of those who have two, as the answers instead."""
    rng = np.random.default_rng(seed)
    counts = np.bincount(np.concatenate(split.histories), minlength=split.num_items + 1)
    kept, asked = [], []
    for rows in split.histories:
        drawn = rows[np.argsort(-LEANING * np.log(counts[rows]) - rng.gumbel(size=len(rows)))]  # Kool et al. 2019
        size = min(max(1, round(HELD_OUT * len(rows))), len(rows) - 1) if len(rows) else 0
        kept.append(rng.permutation(drawn[size:]))
        asked.append(drawn[:size])
    return Split(histories=kept, answers=asked, num_items=split.num_items)


def questions(split: Split) -> tuple[Examples, list[np.ndarray]]:
    """Users with an answer: the history, and all that is right."""
    asked = [user for user, rows in enumerate(split.answers) if len(rows)]
    return to_answer([split.histories[user] for user in asked]), [split.answers[user] for user in asked]


def one_answer_each(split: Split, size: int) -> Examples:
    """What an epoch is judged on: some users' histories, the newest H at most, and one of the right items of each."""
    asked = np.random.default_rng(0).permutation([user for user, rows in enumerate(split.answers) if len(rows)])[:size]
    targets = np.array([split.answers[user][0] for user in asked])
    return to_answer([split.histories[user][-MAX_HISTORY:] for user in asked], targets)


def run(path: Path, options: Options) -> Table:
    """Reads, learns, judges."""
    published = read(path)
    chosen_on = held_out(published)
    split = published if options.judged == "test" else chosen_on
    asked, answers = questions(split)

    def figures(scores: Scores) -> tuple[float, float]:
        return recall_and_ndcg_of_lists(asked, answers, scores, split.num_items, 20)

    ours = []
    for seed in options.seeds if options.is_learned else ():
        result = teach(split, chosen_on, options, seed)
        note = f"{result.seconds / 60:.0f} min, {result.epochs} epochs"
        recent = to_answer(
            [rows[-MAX_HISTORY:] for rows, right in zip(split.histories, split.answers, strict=True) if len(right)]
        )
        ours.append(Line(f"Evergreen, seed {seed}", figures(retrieval_scores(result.model, recent)), note))
    known = to_learn(split.histories).sequences
    baselines = []
    contenders = [Popularity(split.num_items)]
    if IS_INSTALLED:
        contenders.append(Als(split.num_items, factors=256, regularization=0.01, alpha=10.0))
    for contender in contenders:
        began = time.perf_counter()
        contender.fit(known)
        found = figures(scores_of(contender, asked))
        baselines.append(Line(contender.name, found, f"{time.perf_counter() - began:.1f} s"))
    return Table(
        title=f"Two towers, Gowalla ({options.judged}): {len(answers):,} users, {split.num_items:,} items, all ranked",
        metrics=("Recall@20", "NDCG@20"),
        ours=ours,
        baselines=baselines,
        published=PUBLISHED,
        bar=BAR,
    )


def teach(split: Split, chosen_on: Split, options: Options, seed: int) -> Learned:
    """One training on the histories of a split. For the test these hold the answers that its epochs are judged on."""
    config = ModelConfig(
        trainer=options.config(RECORD, seed),
        features=Features(interaction_types={"visit": 1.0}),
        max_history=MAX_HISTORY,
    )
    train = to_learn(split.histories)
    popularity = np.bincount(train.sequences.rows, minlength=split.num_items + 1)
    return learned(
        config,
        plain_catalog(split.num_items, popularity),
        train,
        one_answer_each(chosen_on, config.trainer.validation_examples),
        minutes=options.minutes,
        has_order=False,
    )
