"""Copies prepared data with one span spoiled, to see it refused: `spoil.py --data DIR --span 3 --how schema --out TO`.

`schema`    every `like` of the span is written `thumbs_up`: rows of the right shape, in a vocabulary nobody declared.
            The data gate should stop the run.
`scramble`  item ids of the span's rows before its eval part are permuted among themselves: all counts stay, pairs mean
            nothing, and the eval part is honest. Statistics look sound; the evaluation should reject the model.
"""

import csv
import json
import random
import shutil
from pathlib import Path

import click

MARK = "spoiled.json"
Row = dict[str, str]


@click.command(help=__doc__)
@click.option("--data", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--span", required=True, type=int, help="The span to spoil.")
@click.option("--how", required=True, type=click.Choice(["schema", "scramble"]))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder for the copy.")
@click.option("--eval-fraction", default=0.1, show_default=True, help="As in the pipeline's config; stays honest.")
@click.option("--seed", default=1, show_default=True)
def main(data: Path, span: int, how: str, out: Path, eval_fraction: float, seed: int) -> None:
    """Arguments in, one line out."""
    name = f"spans/{span}/interactions.csv"
    if not (data / name).exists():
        spans = sorted(path.name for path in (data / "spans").glob("*"))
        raise click.ClickException(f"{data} has no {name}; spans there: {spans}. Run prepare.py first")
    manifest = json.loads((data / "manifest.json").read_text())
    mark = {"span": span, "how": how, "eval_fraction": eval_fraction, "seed": seed, "of": manifest["sha256"]}
    if out.exists() and any(out.iterdir()):
        if not (out / MARK).exists():
            raise click.ClickException(f"{out} holds something else; give --out a new folder")
        if json.loads((out / MARK).read_text()) == mark:
            click.echo(f"{out} has span {span} spoiled already ({how}); nothing to do")
            return
        shutil.rmtree(out)
    shutil.copytree(data, out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest.json"))
    with (data / name).open(newline="", encoding="utf-8") as stream:
        rows: list[Row] = list(csv.DictReader(stream))
    changed = rename_likes(rows) if how == "schema" else scramble(rows, eval_fraction, random.Random(seed))
    with (out / name).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    (out / MARK).write_text(json.dumps(mark, indent=1) + "\n")
    click.echo(f"{data} copied to {out}; span {span} spoiled ({how}): {changed} of {len(rows)} rows changed")


def rename_likes(rows: list[Row]) -> int:
    """`like` becomes `thumbs_up`, in place; returns how many."""
    likes = [row for row in rows if row["interaction_type"] == "like"]
    for row in likes:
        row["interaction_type"] = "thumbs_up"
    return len(likes)


def scramble(rows: list[Row], eval_fraction: float, random_generator: random.Random) -> int:
    """Permutes the item ids of the rows before the eval cut, in place; returns how many rows have another item now."""
    times = sorted(int(row["timestamp"]) for row in rows)
    cut = times[int((1 - eval_fraction) * len(times))]  # as the pipeline cuts: a test compares the two
    past = [row for row in rows if int(row["timestamp"]) < cut]
    before = [row["item_id"] for row in past]
    after = random_generator.sample(before, len(before))
    for row, item in zip(past, after, strict=True):
        row["item_id"] = item
    return sum(one != other for one, other in zip(before, after, strict=True))


if __name__ == "__main__":
    main()
