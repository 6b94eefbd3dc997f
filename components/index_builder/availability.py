"""Which items may be shown now: a mask in the servable that is replaced without its model.

A list of what is not available is a CSV file with the columns `item_id` and `available` (true or false; 1 or 0). Items
that it does not name are available. The servable keeps the ids in `assets.extra/unavailable_items.json`, from which the
next model's servable takes them.
"""

import csv
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from components.errors import BuildError

LIST_NAME = "assets.extra/unavailable_items.json"
RELEASE_NAME = "assets.extra/release.json"
_VALUE = "{}/.ATTRIBUTES/VARIABLE_VALUE"  # how a SavedModel's checkpoint names a variable of its root
_WORDS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True)
class Hidden:
    """How many items a list hides, and how many of the ids in it the catalog does not have."""

    items: int
    unknown: int

    def __str__(self) -> str:
        unknown = f" ({self.unknown:,} more ids are not in the catalog)" if self.unknown else ""
        return f"{self.items:,} items are not available{unknown}"


def read_unavailable(path: Path) -> list[str]:
    """Ids of the items that a file says are not available, in its order.

    Raises:
      BuildError: the file cannot be read, or a line is not as expected; the message has its number.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(stream)
            if missing := [name for name in ("item_id", "available") if name not in (rows.fieldnames or ())]:
                raise BuildError(
                    f"{path} has no column {' and no '.join(missing)}; it has {list(rows.fieldnames or ())}; "
                    "expected a header line: item_id,available"
                )
            return [row["item_id"].strip() for row in rows if not _is_available(path, rows.line_num, row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BuildError(f"{path} cannot be read: {error}") from error


def _is_available(path: Path, line: int, row: dict[str, str]) -> bool:
    word = (row["available"] or "").strip().lower()
    if word not in _WORDS or not (row["item_id"] or "").strip():
        raise BuildError(
            f"{path}, line {line}: item_id {row['item_id']!r}, available {row['available']!r}; expected an id, and "
            "true or false"
        )
    return _WORDS[word]


def mask(ids: Iterable[bytes], hidden: Iterable[str]) -> np.ndarray:
    """Which catalog rows may be shown: ids [N] of rows 1..N → bool [N + 1]; row 0 is no item."""
    names = {item.encode() for item in hidden}
    return np.array([False, *(item not in names for item in ids)])


def replace_mask(source: Path, target: Path, unavailable: list[str]) -> Hidden:
    """Copies a servable, with another mask: what the list hides, and what its rules block. Nothing is learned anew.

    Raises:
      BuildError: `source` is not a servable of this version of Evergreen.
    """
    if not (source / RELEASE_NAME).is_file():
        raise BuildError(f"{source} has no {RELEASE_NAME}; expected a servable that Evergreen packed")
    release = json.loads((source / RELEASE_NAME).read_text())
    prefix = str(source / "variables" / "variables")
    reader = tf.train.load_checkpoint(prefix)
    names = reader.get_variable_to_dtype_map()
    if _VALUE.format("may_be_shown") not in names:
        raise BuildError(f"{source} has no mask of items that may be shown; it was packed before there was one")
    tensors = {name: tf.constant(reader.get_tensor(name), dtype) for name, dtype in names.items()}
    ids = tensors[_VALUE.format("item_ids")].numpy().tolist()[1:]
    tensors[_VALUE.format("may_be_shown")] = tf.constant(mask(ids, [*unavailable, *release["rules"]["blocked"]]))
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("variables"))
    (target / "variables").mkdir()
    tf.raw_ops.SaveV2(
        prefix=str(target / "variables" / "variables"),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=list(tensors.values()),
    )
    return describe(target, unavailable, ids)


def describe(servable: Path, unavailable: Sequence[str], ids: Sequence[bytes]) -> Hidden:
    """Leaves the list in the servable, and the figures in its release; `ids` are those of the catalog."""
    known = len(set(unavailable) & {item.decode() for item in ids})
    hidden = Hidden(known, len(set(unavailable)) - known)
    (servable / LIST_NAME).write_text(json.dumps(list(unavailable)))
    release = json.loads((servable / RELEASE_NAME).read_text())
    release["availability"] = {"items_hidden": hidden.items, "ids_unknown": hidden.unknown}
    (servable / RELEASE_NAME).write_text(json.dumps(release, indent=2))
    return hidden


def list_of(servable: Path) -> list[str]:
    """The list that a servable keeps; nothing where there is no servable, or none has been given."""
    path = servable / LIST_NAME
    return list(json.loads(path.read_text())) if path.exists() else []
