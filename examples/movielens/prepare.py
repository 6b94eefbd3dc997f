"""Prepares MovieLens 100K as a log in four spans: `python examples/movielens/prepare.py --out DIR`.

Writes `DIR/spans/<n>/interactions.csv`, `DIR/items.csv`, `DIR/users.csv` and, last, `DIR/manifest.json` with the hash
of each. When all that is there already, nothing is done. A rating of 4 or 5 becomes a `like`, a lower one a `watch`.
"""

import csv
import hashlib
import json
import re
from datetime import datetime, timezone
from pathlib import Path

import click
from fetch import FetchError, RawData, from_grouplens, from_recbole

SPAN_OF_MONTH = {
    month: span
    for span, months in enumerate(
        [("1997-09", "1997-10"), ("1997-11", "1997-12"), ("1998-01", "1998-02"), ("1998-03", "1998-04")], start=1
    )
    for month in months
}
ARTICLES = "The|A|An|La|Le|Les|L'|Il|Der|Die|Das|Det|O"
MANIFEST = "manifest.json"
FORMAT = 1  # raise it when the output changes, so that older output is written again


@click.command(help=__doc__)
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write.")
@click.option("--source", default="auto", type=click.Choice(["auto", "grouplens", "recbole"]), show_default=True)
def main(out: Path, source: str) -> None:
    """Arguments in, one line out."""
    if (rows := prepared_rows(out)) is not None:
        click.echo(f"MovieLens 100K is ready in {out}: {_words(rows)}; nothing to do")
        return
    raw, name = _fetch(source)
    click.echo(f"MovieLens 100K from {name} written to {out}: {_words(write(raw, out))}")


def prepared_rows(out: Path) -> dict[str, int] | None:
    """Rows per span when `out` is complete and unchanged since it was written, else None."""
    path = out / MANIFEST
    if not path.exists():
        return None
    manifest = json.loads(path.read_text())
    if manifest.get("format") != FORMAT:
        return None
    for name, expected in manifest["sha256"].items():
        if not (out / name).exists() or _sha256(out / name) != expected:
            return None
    rows: dict[str, int] = manifest["rows_per_span"]
    return rows


def write(raw: RawData, out: Path) -> dict[str, int]:
    """Writes the whole set and returns rows per span. Rows are in order of time, user and item: a source has no say."""
    spans: dict[str, list[tuple[str, str, str, int]]] = {}
    for user, item, rating, seconds in sorted(raw.ratings, key=lambda row: (row[3], int(row[0]), int(row[1]))):
        span = SPAN_OF_MONTH[f"{datetime.fromtimestamp(seconds, tz=timezone.utc):%Y-%m}"]
        spans.setdefault(str(span), []).append((user, item, "like" if rating >= 4 else "watch", seconds))
    files: dict[str, tuple[list[str], list[tuple[str | int, ...]]]] = {
        f"spans/{span}/interactions.csv": (["user_id", "item_id", "interaction_type", "timestamp"], list(rows))
        for span, rows in sorted(spans.items())
    }
    items = [
        (item, *title_and_year(title), "|".join(genre for genre in genres if genre != "unknown"))
        for item, title, genres in sorted(raw.items, key=lambda row: int(row[0]))
    ]
    files["items.csv"] = (["item_id", "title", "year", "genres"], list(items))
    files["users.csv"] = (
        ["user_id", "age", "gender", "occupation"],
        sorted(raw.users, key=lambda row: int(row[0])),
    )
    for name, (header, rows) in files.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream, lineterminator="\n").writerows([header, *rows])
    rows_per_span = {span: len(rows) for span, rows in sorted(spans.items())}
    manifest = {"format": FORMAT, "rows_per_span": rows_per_span, "sha256": {n: _sha256(out / n) for n in files}}
    (out / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    return rows_per_span


def title_and_year(text: str) -> tuple[str, str]:
    """As people write it: "Empire Strikes Back, The (1980)" → ("The Empire Strikes Back", "1980"); no year is ""."""
    match = re.fullmatch(r"(?P<title>.*?)\s*\((?P<year>\d{4})\)(?:\s*\(V\))?\s*", text)  # (V): made for video
    title, year = (match["title"], match["year"]) if match else (text, "")
    title = re.sub(rf"([^()]+), ({ARTICLES})(?=\s*(?:[()]|$))", _article_first, title)
    return " ".join(title.split()), year


def _article_first(match: re.Match[str]) -> str:
    name, article = match[1], match[2]
    return f"{article}{name}" if article.endswith("'") else f"{article} {name}"


def _fetch(source: str) -> tuple[RawData, str]:
    failures = []
    sources = {"grouplens": from_grouplens, "recbole": from_recbole}
    for name in sources if source == "auto" else [source]:
        try:
            return sources[name](), {"grouplens": "GroupLens", "recbole": "the RecBole 1.2.1 wheel"}[name]
        except FetchError as error:
            failures.append(str(error))
    raise click.ClickException("MovieLens 100K cannot be fetched. Check the network.\n" + "\n".join(failures))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _words(rows: dict[str, int]) -> str:
    return "interactions in spans " + ", ".join(f"{span}: {count}" for span, count in rows.items())


if __name__ == "__main__":
    main()
