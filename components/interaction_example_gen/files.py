"""Which files a run reads: found by the contract's globs through Beam's file systems (local, gs://, s3://, …)."""

import hashlib
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass

from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.filesystems import FileSystems

from components.errors import DataError
from components.interaction_example_gen.contract import DataContract


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """One input file. `index` orders the files of a run; `name` is the path below the data root, for messages."""

    index: int
    path: str
    name: str
    span: int | None = None


def window_spans(span: int, count: int) -> tuple[int, ...]:
    """The spans that a run for `span` may read, oldest first: `count` of them, none below 0."""
    return tuple(range(max(0, span - count + 1), span + 1))


def interaction_files(data_root: str, contract: DataContract, spans: Sequence[int]) -> list[SourceFile]:
    """The log's files of `spans`, by span and name. An older span may be absent; the newest must be there.

    Raises DataError when the newest span has no file, naming the spans that have.
    """
    glob = contract.interactions.files
    found = [(span, meta) for span in sorted(spans) for meta in _match(data_root, glob.replace("{span}", str(span)))]
    newest = max(spans)
    if newest not in {span for span, _ in found}:
        existing = existing_spans(data_root, contract)
        raise DataError(
            f"span {newest} has no file: nothing matches {glob.replace('{span}', str(newest))!r} below {data_root!r}; "
            f"spans with files: {existing or 'none'}. Put the span's files there, or correct data_root or "
            "interactions.files"
        )
    return [
        SourceFile(index=index, path=meta.path, name=_below(data_root, meta.path), span=span)
        for index, (span, meta) in enumerate(found)
    ]


def entity_files(data_root: str, glob: str, setting: str) -> list[SourceFile]:
    """The files of the catalog or of the users, by name; `setting` names the glob's key in the configuration.

    Raises DataError when none matches, naming what lies in the folder.
    """
    found = _match(data_root, glob)
    if not found:
        folder = posixpath.dirname(glob)
        beside = [_below(data_root, meta.path) for meta in _match(data_root, posixpath.join(folder, "*"))]
        raise DataError(
            f"nothing matches {glob!r} below {data_root!r}; files there: {beside[:10] or 'none'}. "
            f"Correct {setting} or data_root, or put the file there"
        )
    return [
        SourceFile(index=index, path=meta.path, name=_below(data_root, meta.path)) for index, meta in enumerate(found)
    ]


def existing_spans(data_root: str, contract: DataContract) -> list[int]:
    """All spans that have a file, ascending."""
    glob = contract.interactions.files
    wildcards = {r"\*": "[^/]*", r"\?": "[^/]"}
    pattern = re.escape(glob.replace("{span}", "\0")).replace(re.escape("\0"), r"(\d+)", 1)
    pattern = pattern.replace(re.escape("\0"), r"\d+")
    for escaped, meaning in wildcards.items():
        pattern = pattern.replace(escaped, meaning)
    names = (_below(data_root, meta.path) for meta in _match(data_root, glob.replace("{span}", "*")))
    return sorted({int(match.group(1)) for name in names if (match := re.fullmatch(pattern, name))})


def fingerprint(data_root: str, contract: DataContract, spans: Sequence[int]) -> str:
    """A hash of the names, sizes and modification times of every file that a run over `spans` reads.

    Goes into the component's parameters, so that a cached result is used only while the data is the same.
    Raises DataError when the newest span, the catalog or the users have no file.
    """
    metas = [(file.name, file.path) for file in interaction_files(data_root, contract, spans)]
    for files in (catalog_files(data_root, contract), user_files(data_root, contract)):
        metas += [(file.name, file.path) for file in files]
    facts = []
    for name, path in metas:
        meta = FileSystems.match([path])[0].metadata_list[0]
        facts.append(f"{name}\t{meta.size_in_bytes}\t{meta.last_updated_in_seconds}")
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def catalog_files(data_root: str, contract: DataContract) -> list[SourceFile]:
    """The catalog's files; raises DataError when there is none."""
    return entity_files(data_root, contract.items.files, "items.files")


def user_files(data_root: str, contract: DataContract) -> list[SourceFile]:
    """The users' files, none when the contract declares no users; raises DataError when one is declared and absent."""
    return entity_files(data_root, contract.users.files, "users.files") if contract.users else []


def _match(data_root: str, glob: str) -> list[FileMetadata]:
    """Files below the root that match, by path; hidden ones and markers (`.x`, `_SUCCESS`) are not data.

    Raises DataError when the store is unknown, or refuses.
    """
    pattern = posixpath.join(data_root, glob)
    try:
        found = FileSystems.match([pattern])[0].metadata_list
    except Exception as error:  # each of Beam's file systems raises its own
        raise DataError(
            f"{pattern!r} cannot be listed: {error}. Correct data_root, or let this process read it: credentials, "
            "a mounted volume (on Kubeflow: kubeflow.secrets, kubeflow.volumes)"
        ) from error
    return sorted(
        (meta for meta in found if not posixpath.basename(meta.path).startswith((".", "_"))),
        key=lambda m: m.path,
    )


def _below(data_root: str, path: str) -> str:
    return path.removeprefix(data_root).lstrip("/")
