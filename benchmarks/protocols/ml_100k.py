"""MovieLens 100K, read from a folder or fetched as the demo does, in random splits of 80 to 20."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainer.features import Feature

from .categories import many, one

HELD_OUT = 0.2
CHOSEN_ON = 0.1  # of what is left, for the choices
EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "movielens"
USER_FEATURES = (Feature(name="age", type="number"), Feature(name="gender"), Feature(name="occupation"))
ITEM_FEATURES = (Feature(name="genres", type="categories"),)


@dataclass(frozen=True, kw_only=True)
class Ratings:
    """100,000 ratings in the order of time; users 0..U-1, catalog rows 1..N, ratings 1..5, and what describes both.

    users, items: feature → [U], and [N + 1, …] with row 0 unknown; vocabularies by feature.
    """

    user: np.ndarray
    item: np.ndarray
    rating: np.ndarray
    users: dict[str, np.ndarray]
    items: dict[str, np.ndarray]
    user_vocabularies: dict[str, np.ndarray]
    item_vocabularies: dict[str, np.ndarray]

    @property
    def num_users(self) -> int:
        return len(self.users["gender"])

    @property
    def num_items(self) -> int:
        return len(self.items["genres"]) - 1


@dataclass(frozen=True, kw_only=True)
class Split:
    """Which ratings are known and which are asked for: positions in Ratings, each in order of time."""

    train: np.ndarray
    asked: np.ndarray


def read(path: Path | None) -> Ratings:
    """What `read_strings` read, as arrays."""
    raw = read_strings(path)
    return arrays(raw.ratings, raw.items, raw.users)


def read_strings(path: Path | None) -> Any:
    """RawData of examples/movielens/fetch.py: GroupLens' `u.*` or RecBole's `ml-100k.*` of a folder, or fetched."""
    sys.path.append(str(EXAMPLES))
    from fetch import FetchError, from_grouplens, from_recbole, parse_grouplens, parse_recbole

    if path is None:
        try:
            return from_grouplens()
        except FetchError:
            return from_recbole()
    if (path / "u.data").exists():
        return parse_grouplens(lambda name: (path / name).read_bytes())
    if (path / "ml-100k.inter").exists():
        return parse_recbole(lambda name: (path / name).read_bytes())
    raise ValueError(f"{path} has neither u.data (GroupLens) nor ml-100k.inter (RecBole); leave --data out to fetch it")


def arrays(
    ratings: Sequence[tuple[str, str, int, int]],
    items: Sequence[tuple[str, str, list[str]]],
    users: Sequence[tuple[str, str, str, str]],
) -> Ratings:
    """From the strings of examples/movielens/fetch.py."""
    row_of_user = {user[0]: row for row, user in enumerate(users)}
    row_of_item = {item[0]: row for row, item in enumerate(items, start=1)}
    ordered = sorted(ratings, key=lambda row: (row[3], int(row[0]), int(row[1])))
    age = np.array([float(user[1]) for user in users])
    gender, genders = one([user[2] for user in users])
    occupation, occupations = one([user[3] for user in users])
    genre_rows, genres = many([item[2] for item in items])
    return Ratings(
        user=np.array([row_of_user[row[0]] for row in ordered]),
        item=np.array([row_of_item[row[1]] for row in ordered]),
        rating=np.array([row[2] for row in ordered]),
        users={
            "age": ((age - age.mean()) / max(age.std(), 1e-6)).astype(np.float32),
            "gender": gender,
            "occupation": occupation,
        },
        items={"genres": np.concatenate([np.zeros((1, genre_rows.shape[1]), np.int64), genre_rows])},
        user_vocabularies={"gender": genders, "occupation": occupations},
        item_vocabularies={"genres": genres},
    )


def split(num_ratings: int, judged: str, seed: int) -> Split:
    """A random fifth is asked for. To choose, a tenth of the others, and the fifth is not looked at."""
    mixed = np.random.default_rng(seed).permutation(num_ratings)
    size = round(HELD_OUT * num_ratings)
    asked, train = mixed[:size], mixed[size:]
    if judged == "validation":
        size = round(CHOSEN_ON * len(train))
        asked, train = train[:size], train[size:]
    return Split(train=np.sort(train), asked=np.sort(asked))


def by_user(ratings: Ratings, chosen: np.ndarray, column: np.ndarray) -> list[np.ndarray]:
    """A column of some of the ratings, for each user in order of time: U arrays."""
    users = ratings.user[chosen]
    order = np.argsort(users, kind="stable")
    ends = np.cumsum(np.bincount(users, minlength=ratings.num_users))
    return np.split(column[chosen][order], ends[:-1])
