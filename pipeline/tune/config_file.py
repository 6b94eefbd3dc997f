"""Settings written into a person's YAML file: the values change, every other character stays.

The parser says where each value stands in the text (yaml.compose), and only these places are rewritten. The result is
parsed again and compared with what was meant, so a file that cannot be edited so is left alone.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pipeline.config import ConfigError

INDENT = "  "


def with_settings(text: str, leaf: str, values: Mapping[str, Any]) -> str:
    """The YAML text with `values` in the mapping at the top-level key `leaf`, which is appended where there is none.

    Raises:
      ConfigError: the text is written so that a value cannot be changed alone; it names what to write by hand.
    """
    meant = _meant(text, leaf, values)
    edited = _edited(text, leaf, values)
    try:
        is_right = yaml.safe_load(edited) == meant
    except yaml.YAMLError:
        is_right = False
    if not is_right:
        by_hand = yaml.safe_dump({leaf: dict(values)}, default_flow_style=True, width=10_000).strip()
        raise ConfigError(f"{leaf} is written in a way that is not edited safely, such as an alias; write: {by_hand}")
    return edited


def write(path: Path, text: str) -> None:
    """Replaces the file at once: whoever reads it meanwhile sees the old or the new one. Links and modes are kept."""
    path = path.resolve()
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(text, encoding="utf-8", newline="")
    beside.chmod(path.stat().st_mode)
    os.replace(beside, path)


def _meant(text: str, leaf: str, values: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load(text) or {}
    return {**tree, leaf: {**(tree.get(leaf) or {}), **values}}


def _edited(text: str, leaf: str, values: Mapping[str, Any]) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    entries = {key.value: value for key, value in root.value} if isinstance(root, yaml.MappingNode) else {}
    node = entries.get(leaf)
    if node is None:
        ends = "" if not text or text.endswith("\n") else newline
        return f"{text}{ends}{newline}{leaf}:{newline}{_lines(values, INDENT, newline)}"
    if not isinstance(node, yaml.MappingNode):  # `trainer:` and nothing behind it
        at = node.end_mark.index
        return f"{text[:at]}{newline}{_lines(values, INDENT, newline).rstrip()}{text[at:]}"
    return _in_mapping(text, node, values, newline)


def _in_mapping(text: str, node: yaml.MappingNode, values: Mapping[str, Any], newline: str) -> str:
    """From the last place to the first, so that those before it stay where they are."""
    present = {key.value: value for key, value in node.value}
    edits = [
        (value.start_mark.index, value.end_mark.index, _scalar(values[name], value))
        for name, value in present.items()
        if name in values
    ]
    if new := {name: value for name, value in values.items() if name not in present}:
        edits.append(_insertion(text, node, new, newline))
    for start, end, replacement in sorted(edits, reverse=True):
        text = text[:start] + replacement + text[end:]
    return text


def _insertion(text: str, node: yaml.MappingNode, new: Mapping[str, Any], newline: str) -> tuple[int, int, str]:
    """Where new settings go, and as what: behind the last one, in the style of the mapping."""
    if node.flow_style:
        last = node.value[-1][1].end_mark.index if node.value else node.start_mark.index + 1
        words = ", ".join(f"{name}: {_scalar(value)}" for name, value in new.items())
        return last, last, f", {words}" if node.value else words
    key, value = node.value[-1]
    end = text.find("\n", value.end_mark.index)
    indent = " " * key.start_mark.column
    if end < 0:
        return len(text), len(text), newline + _lines(new, indent, newline).rstrip()
    return end + 1, end + 1, _lines(new, indent, newline)


def _lines(values: Mapping[str, Any], indent: str, newline: str) -> str:
    return "".join(f"{indent}{name}: {_scalar(value)}{newline}" for name, value in values.items())


def _scalar(value: Any, instead_of: yaml.Node | None = None) -> str:
    """As YAML writes it in a line; a blank before it where nothing stood behind the colon."""
    written = yaml.safe_dump(value, default_flow_style=True).removesuffix("\n").removesuffix("\n...")
    is_nothing = instead_of is not None and instead_of.start_mark.index == instead_of.end_mark.index
    return f" {written}" if is_nothing else written
