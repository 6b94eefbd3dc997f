"""A small log in files, in every format, and what is built from it, read back by TensorFlow."""

import csv
import gzip
import io
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from components.interaction_example_gen.build import Request, build
from components.interaction_example_gen.contract import (
    DataContract,
    ExamplesConfig,
    InteractionsContract,
    ItemsContract,
    UsersContract,
)
from components.interaction_example_gen.plan import Learned, ReadPlan, make_plan
from trainer.features import Feature

HEADER = ["who", "what", "how", "when", "device", "price"]
Record = tuple[str, str, str, int, str, float | None]

# 3 users, 5 items; e5 is in the catalog and never used; u3 is not among the users; spans 1 and 2.
SPAN_1: list[Record] = [
    ("u1", "e1", "view", 10, "phone", 1.5),
    ("u1", "e2", "view", 10, "", None),
    ("u1", "e3", "buy", 20, "tv", 2.0),
    ("u2", "e1", "buy", 15, "phone", 3.0),
]
SPAN_2: list[Record] = [
    ("u1", "e4", "view", 30, "tv", 1.0),
    ("u2", "e2", "peek", 35, "tv", 1.0),
    ("u2", "e3", "view", 40, "phone", None),
    ("u3", "e1", "buy", 50, "phone", 4.0),
    ("u1", "e1", "buy", 50, "tv", 5.0),
]
ITEMS = "id,name,kinds,weight\ne1,One,red|blue,1\ne2,Two,,2.5\ne3,Three,blue,\ne4,Four,red,4\ne5,Fünf,green,5\n"
USERS = "id,age,city\nu1,30,Rome\nu2,,\nu9,50,Oslo\n"
CONFIG = ExamplesConfig(eval_fraction=0.3, max_history=2, num_shards=2)
SPLITS = ("examples/Split-train", "examples/Split-eval", "users/Split-all", "catalog/Split-all")


def contract(**interactions: Any) -> DataContract:
    """Of the records above."""
    names = {"user_id": "who", "item_id": "what", "interaction_type": "how", "timestamp": "when"}
    context = (Feature(name="device"), Feature(name="price", type="number"))
    return DataContract(
        interactions=InteractionsContract(
            **{**names, "types": {"view": 1.0, "buy": 2.0}, "context": context, **interactions}
        ),
        items=ItemsContract(
            item_id="id",
            title="name",
            features=(Feature(name="kinds", type="categories"), Feature(name="weight", type="number")),
        ),
        users=UsersContract(user_id="id", features=(Feature(name="age", type="number"), Feature(name="city"))),
    )


def as_csv(path: Path, rows: list[Record]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([HEADER, *(["" if v is None else v for v in row] for row in rows)])
    path.with_suffix(".csv").write_text(text.getvalue())


def as_csv_gz(path: Path, rows: list[Record]) -> None:
    as_csv(path, rows)
    plain = path.with_suffix(".csv")
    path.with_suffix(".csv.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()


def as_json_lines(path: Path, rows: list[Record]) -> None:
    lines = [json.dumps({k: v for k, v in zip(HEADER, row, strict=True) if v is not None}) for row in rows]
    path.with_suffix(".jsonl").write_text("\n".join(lines) + "\n")


def as_parquet(path: Path, rows: list[Record]) -> None:
    pq.write_table(
        pa.table(dict(zip(HEADER, map(list, zip(*rows, strict=True)), strict=True))), path.with_suffix(".parquet")
    )


def write_data(
    root: Path,
    write: Callable[[Path, list[Record]], None] = as_csv,
    spans: Mapping[int, list[Record]] | None = None,
) -> Path:
    """The log's spans, the catalog and the users below `root`."""
    for span, rows in (spans or {1: SPAN_1, 2: SPAN_2}).items():
        (root / f"spans/{span}").mkdir(parents=True, exist_ok=True)
        write(root / f"spans/{span}/log", rows)
    (root / "items.csv").write_text(ITEMS)
    (root / "users.csv").write_text(USERS)
    return root


def run(
    root: Path,
    out: Path,
    config: ExamplesConfig = CONFIG,
    *,
    learned_until: int = 0,
    data: DataContract | None = None,
    span: int = 2,
    learned: Learned | None = None,
    state: Path | None = None,
    plan: ReadPlan | None = None,
    pipeline: beam.Pipeline | None = None,
) -> dict[str, Any]:
    """Plans and builds `span`; what production has learned comes with the state that it left."""
    data = data or contract()
    request = Request(
        data_root=str(root),
        contract=data,
        config=config,
        plan=plan or make_plan(str(root), data, config, span, learned=learned),
        learned_until_seconds=learned_until,
        state_uri=str(state) if state else None,
        examples_uri=str(out / "examples"),
        catalog_uri=str(out / "catalog"),
        users_uri=str(out / "users"),
        new_state_uri=str(out / "state"),
    )
    return build(pipeline or beam.Pipeline(), request)


def learned_by(summary: Mapping[str, Any]) -> Learned:
    """What production has learned once the model of that run is pushed."""
    lineage = summary["lineage"]
    return Learned(
        spans={int(span): seen for span, seen in lineage["learned"].items()},
        in_state=tuple(lineage["in_state"]),
        reads_as=lineage["reads_as"],
    )


def read(out: Path, split: str) -> list[dict[str, list[Any]]]:
    """Examples as name → values, NaN as None, in the order of their content."""
    found = []
    files = sorted(str(path) for path in (out / split).glob("*"))
    for record in tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator():
        example: dict[str, list[Any]] = {}
        for name, feature in tf.train.Example.FromString(record).features.feature.items():
            kind = feature.WhichOneof("kind")
            values = getattr(feature, kind).value if kind else []
            plain = [v.decode() if isinstance(v, bytes) else v for v in values]
            example[name] = [None if isinstance(v, float) and math.isnan(v) else v for v in plain]
        found.append(dict(sorted(example.items())))
    return sorted(found, key=repr)


def files_of(out: Path) -> dict[str, list[bytes]]:
    """Every file that a build wrote, but the account of it: name → its records, or all its bytes as one.

    The encoder writes the entries of an example in any order (they are a protobuf map): here they are sorted by key.
    """
    found = {}
    for path in sorted(path for path in out.rglob("*.*") if path.suffix in (".gz", ".parquet")):
        if "rejected" in path.parts:
            continue
        is_records = path.suffix == ".gz"
        records = tf.data.TFRecordDataset(str(path), "GZIP").as_numpy_iterator() if is_records else []
        found[str(path.relative_to(out))] = [
            tf.train.Example.FromString(record).SerializeToString(deterministic=True) for record in records
        ] or [path.read_bytes()]
    return found
