"""Dockerfiles and their ignore files, read as Docker reads them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class Instruction:
    """`WORD --flag=value … arguments`, on one line."""

    word: str
    flags: dict[str, str]
    text: str

    @cached_property
    def arguments(self) -> list[str]:
        return self.text.split()


def instructions(text: str) -> list[Instruction]:
    """The instructions of a Dockerfile: without comments, continued lines joined."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    found = []
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        word, _, rest = line.partition(" ")
        flags = {}
        while match := re.match(r"--([a-z]+)=(\S+)\s+", rest):
            flags[match[1]], rest = match[2], rest[match.end() :]
        found.append(Instruction(word.upper(), flags, rest))
    return found


def stages(path: Path) -> dict[str, list[Instruction]]:
    """Instructions by stage, FROM included; the last one's name is ''."""
    found: dict[str, list[Instruction]] = {}
    for instruction in instructions(path.read_text()):
        if instruction.word == "FROM":
            name = instruction.arguments[2] if len(instruction.arguments) == 3 else ""
            found[name] = []
        if found:
            found[name].append(instruction)
    return found


def bases(path: Path) -> list[str]:
    """The images that a Dockerfile begins with, not its own stages; ARGs have their defaults."""
    defaults = dict(i.text.split("=", 1) for i in instructions(path.read_text()) if i.word == "ARG")
    named = [re.sub(r"\$\{(\w+)\}", lambda m: defaults[m[1]], s[0].arguments[0]) for s in stages(path).values()]
    return [name for name in named if name not in stages(path)]


def is_ignored(name: str, patterns: Sequence[str]) -> bool:
    """Docker's rule: the last pattern that fits the path or a folder above it decides; `!` lets in again."""
    ignored = False
    ways = [name, *(str(parent) for parent in Path(name).parents)]
    for pattern in patterns:
        parts = re.split(r"(\*\*/|\*)", pattern.lstrip("!"))
        expression = "".join({"**/": "(?:.*/)?", "*": "[^/]*"}.get(part) or re.escape(part) for part in parts)
        if any(re.fullmatch(expression, way) for way in ways):
            ignored = not pattern.startswith("!")
    return ignored


def patterns_of(ignore_file: Path) -> list[str]:
    """The patterns of an ignore file."""
    return [line for line in ignore_file.read_text().splitlines() if line and not line.startswith("#")]


def copied(stage: Sequence[Instruction]) -> list[tuple[list[str], str]]:
    """(sources, target) of the COPYs from the context."""
    copies = [i.arguments for i in stage if i.word == "COPY" and "from" not in i.flags]
    return [(names[:-1], names[-1]) for names in copies]
