"""Which items may be shown now: a mask in the servable that is replaced without its model.

A list of what is not available is a CSV file with the columns `item_id` and `available` (true or false; 1 or 0). Items
that it does not name are available. The servable keeps the ids in `assets.extra/unavailable_items.json`, from which the
next model's servable takes them; one that was packed before the list changed gets the new one when it is pushed.
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
CONTRACT_NAME = "assets.extra/contract.json"
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
      BuildError: the file cannot be read, a line is not as expected, or two lines contradict each other; the message
        has their numbers.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(stream)
            if missing := [name for name in ("item_id", "available") if name not in (rows.fieldnames or ())]:
                raise BuildError(
                    f"{path} has no column {' and no '.join(missing)}; it has {list(rows.fieldnames or ())}; "
                    "expected a header line: item_id,available"
                )
            said: dict[str, tuple[bool, int]] = {}
            for row in rows:
                is_available = _is_available(path, rows.line_num, row)
                before, line = said.setdefault(row["item_id"].strip(), (is_available, rows.line_num))
                if before != is_available:
                    raise BuildError(
                        f"{path}, lines {line} and {rows.line_num}: item_id {row['item_id'].strip()!r} is available "
                        "in one and not in the other; expected one line for each item"
                    )
            return [item for item, (is_available, _) in said.items() if not is_available]
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


def shown_value(values: Sequence[bytes], values_of: np.ndarray, may_be_shown: np.ndarray) -> str:
    """A `feature=value` that some item has which may be shown, '' where there is none: a filter to try.

    `values` [V] has row i + 1 as its i-th; values_of [N + 1, W] are rows of what each item has; may_be_shown [N + 1].
    """
    shown = values_of[may_be_shown]
    shown = shown[shown > 0]
    return values[shown.min() - 1].decode() if shown.size else ""


def replace_mask(source: Path, target: Path, unavailable: Sequence[str]) -> Hidden:
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
    if missing := [name for name in ("may_be_shown", "filters/values") if _VALUE.format(name) not in names]:
        raise BuildError(f"{source} has no {' and no '.join(missing)} to replace; it was packed before there was one")
    tensors = {name: tf.constant(reader.get_tensor(name), dtype) for name, dtype in names.items()}
    ids = tensors[_VALUE.format("item_ids")].numpy().tolist()[1:]
    may_be_shown = mask(ids, [*unavailable, *release["rules"]["blocked"]])
    tensors[_VALUE.format("may_be_shown")] = tf.constant(may_be_shown)
    contract = json.loads((source / CONTRACT_NAME).read_text())
    values, values_of = (tensors[_VALUE.format(f"filters/{name}")].numpy() for name in ("values", "values_of"))
    contract["canary"]["allow"] = shown_value(values.tolist(), values_of, may_be_shown)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("variables"))
    (target / CONTRACT_NAME).write_text(json.dumps(contract, indent=2))
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
