"""Which files a run reads: found by the contract's globs through Beam's file systems (local, gs://, s3://, …)."""

import hashlib
import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.filesystems import FileSystems

from components.errors import DataError
from components.interaction_example_gen.contract import DataContract
from components.interaction_example_gen.span_pattern import SpanPattern


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """One input file. `index` orders the files of a run; `name` is the path below the data root, for messages.

    `written_at_seconds` is 0 where the store does not know; `span` -1 for files that are of none.
    """

    index: int
    path: str
    name: str
    size_bytes: int
    written_at_seconds: float
    span: int = -1


def window_of(span: int, count: int) -> range:
    """The spans that a run for `span` may look at, oldest first: `count` of them, none below 0."""
    return range(max(0, span - count + 1), span + 1)


def interaction_files(data_root: str, contract: DataContract, spans: Iterable[int]) -> list[SourceFile]:
    """The log's files of `spans`, by span and name; a span may have none. Of a span with versions, the highest's."""
    found = _of_spans(data_root, SpanPattern(contract.interactions.files), spans)
    return [_source(data_root, meta, index, span) for index, (span, meta) in enumerate(found)]


def catalog_files(data_root: str, contract: DataContract, spans: Iterable[int]) -> list[SourceFile]:
    """The catalog's files; raises DataError when there is none. `spans`: whose, where they belong to spans."""
    return _entity_files(data_root, contract.items.files, "items.files", spans)


def user_files(data_root: str, contract: DataContract, spans: Iterable[int]) -> list[SourceFile]:
    """The users' files, none when the contract declares no users; raises DataError when one is declared and absent."""
    return _entity_files(data_root, contract.users.files, "users.files", spans) if contract.users else []


def existing_spans(data_root: str, contract: DataContract) -> list[int]:
    """All spans that have a file, ascending."""
    pattern = SpanPattern(contract.interactions.files)
    names = (below(data_root, meta.path) for meta in _match(data_root, pattern.glob()))
    return sorted({parsed[0] for name in names if (parsed := pattern.parse(name))})


def no_file(data_root: str, contract: DataContract, span: int) -> DataError:
    """What to say when a span has no file: names the spans that have."""
    pattern, existing = SpanPattern(contract.interactions.files), existing_spans(data_root, contract)
    shown = pattern.labels(existing[-20:])
    return DataError(
        f"span {pattern.label(span)} has no file: nothing matches {pattern.glob(span)!r} below {data_root!r}; "
        f"spans with files: {f'… {shown}' if len(existing) > 20 else shown}. Put the span's files there, or correct "
        "data_root or interactions.files"
    )


def fingerprint(files: Iterable[SourceFile]) -> str:
    """A hash of names, sizes and times of writing: tells whether anything changed, without reading it."""
    facts = [f"{file.name}\t{file.size_bytes}\t{file.written_at_seconds}" for file in files]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def below(data_root: str, path: str) -> str:
    """The path from the data root on."""
    return path.removeprefix(data_root).lstrip("/")


def _of_spans(data_root: str, pattern: SpanPattern, spans: Iterable[int]) -> list[tuple[int, FileMetadata]]:
    """Each file with its span; of a span with versions, the highest's."""
    found: list[tuple[int, FileMetadata]] = []
    for span in sorted(spans):
        versions: dict[int, list[FileMetadata]] = {}
        for meta in _match(data_root, pattern.glob(span)):
            if (parsed := pattern.parse(below(data_root, meta.path))) and parsed[0] == span:
                versions.setdefault(parsed[1], []).append(meta)
        if versions:
            found += [(span, meta) for meta in versions[max(versions)]]
    return found


def _entity_files(data_root: str, glob: str, setting: str, spans: Iterable[int]) -> list[SourceFile]:
    globs = [SpanPattern(glob).glob(span) for span in sorted(spans)] if "{" in glob else [glob]
    found = (
        [meta for _, meta in _of_spans(data_root, SpanPattern(glob), spans)] if "{" in glob else _match(data_root, glob)
    )
    if not found:
        folder = posixpath.dirname(globs[-1])
        beside = [below(data_root, meta.path) for meta in _match(data_root, posixpath.join(folder, "*"))]
        raise DataError(
            f"nothing matches {globs[-1]!r} below {data_root!r}; files there: {beside[:10] or 'none'}. "
            f"Correct {setting} or data_root, or put the file there"
        )
    return [_source(data_root, meta, index, -1) for index, meta in enumerate(found)]


def _source(data_root: str, meta: FileMetadata, index: int, span: int) -> SourceFile:
    return SourceFile(
        index=index,
        path=meta.path,
        name=below(data_root, meta.path),
        size_bytes=meta.size_in_bytes or 0,
        written_at_seconds=meta.last_updated_in_seconds or 0,
        span=span,
    )


def _match(data_root: str, glob: str) -> Sequence[FileMetadata]:
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
