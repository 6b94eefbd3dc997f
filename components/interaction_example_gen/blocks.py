"""A text file in blocks of whole lines, so that memory does not grow with the file."""

import gzip
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from components.errors import DataError
from components.interaction_example_gen.files import SourceFile

BLOCK_BYTES = 32 << 20
MAX_LINE_BYTES = 64 << 20
QUOTE_REMEDY = "Close the quote, or double it where it is text"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def text_blocks(file: SourceFile, *, quoted: bool, block_bytes: int = BLOCK_BYTES) -> Iterator[tuple[int, bytes]]:
    """(number of the first line, from 1; whole lines in UTF-8). With `quoted`, line ends in a quoted field are text.

    Raises DataError when the file is no gzip though its name says so, is truncated, is not UTF-8, or has a line that
    does not end.
    """
    line, rest = 1, b""
    for chunk in chunks(file, block_bytes):
        data = rest + chunk
        end = _end_of_lines(data, delimiter_of(file)) if quoted else data.rfind(b"\n") + 1
        if not end and len(data) > MAX_LINE_BYTES:
            remedy = QUOTE_REMEDY if quoted else "Write one JSON object per line"
            raise DataError(f"{file.name}:{line}: this line does not end within {len(data)} bytes. {remedy}")
        block, rest = data[:end], data[end:]
        if block:
            _check_utf8(file, block, line)
            yield line, block
            line += block.count(b"\n")
    if rest:
        _check_utf8(file, rest, line)
        if quoted and len(marks := _field_quotes(rest, delimiter_of(file))) % 2:
            line += rest.count(b"\n", 0, int(marks[-1]))
            raise DataError(f"{file.name}:{line}: a double quote opens here and is never closed. {QUOTE_REMEDY}")
        yield line, rest


def delimiter_of(file: SourceFile) -> str:
    """What is between two fields of a table."""
    return "\t" if file.path.lower().removesuffix(".gz").endswith(".tsv") else ","


def open_file(file: SourceFile) -> BinaryIO:
    """The bytes as they are in the store. Raises DataError when the file is gone."""
    try:
        return FileSystems.open(file.path, compression_type=CompressionTypes.UNCOMPRESSED)
    except FileNotFoundError as error:
        raise DataError(f"{file.name}: was there when the run began, and is gone. Put it back, or run again") from error


def chunks(file: SourceFile, size: int = BLOCK_BYTES) -> Iterator[bytes]:
    """The file's bytes, unpacked, without a byte-order mark. Raises DataError: truncated, or no gzip."""
    with open_file(file) as raw:
        if not file.path.lower().endswith(".gz"):
            yield from _pieces(raw, size)
            return
        try:
            with gzip.GzipFile(fileobj=raw) as stream:
                yield from _pieces(stream, size)
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(
                f"{file.name}: truncated or not gzip ({error}); {file.size_bytes} bytes. Copy the file again, "
                "or remove it"
            ) from error


def _pieces(stream: BinaryIO | gzip.GzipFile, size: int) -> Iterator[bytes]:
    yield stream.read(len(BYTE_ORDER_MARK)).removeprefix(BYTE_ORDER_MARK)
    while piece := stream.read(size):
        yield piece


def _end_of_lines(data: bytes, delimiter: str) -> int:
    """Where the last whole line ends, of lines that begin outside of quotes; 0 when there is none."""
    marks = _field_quotes(data, delimiter)
    begins = np.append(0, marks[1::2])  # of the stretches outside of quotes
    ends = np.append(marks[::2], len(data))[: len(begins)]
    for begin, end in zip(begins[::-1], ends[::-1], strict=True):
        if (found := data.rfind(b"\n", begin, end)) >= 0:
            return found + 1
    return 0


def _field_quotes(data: bytes, delimiter: str) -> np.ndarray:
    """Places of the double quotes that open and close fields, in turn; in a field that does not begin with one they are
    text. A doubled quote closes and opens again. `data` begins outside of quotes.
    """
    letters = np.frombuffer(b"\n" + data, dtype=np.uint8)  # place p of data stands at p + 1
    places = np.flatnonzero(letters == ord('"')) - 1
    starts = np.frombuffer(f"{delimiter}\n\r".encode(), dtype=np.uint8)
    is_first = np.isin(letters[places], starts)  # in its field
    if (is_first[::2] | (letters[places[::2]] == ord('"'))).all():
        return places
    marks: list[int] = []
    for place, first in zip(places.tolist(), is_first.tolist(), strict=True):
        if len(marks) % 2 or first or marks[-1:] == [place - 1]:
            marks.append(place)
    return np.array(marks, dtype=np.int64)


def _check_utf8(file: SourceFile, data: bytes, line: int) -> None:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line += data.count(b"\n", 0, error.start)
        shown = data[max(0, error.start - 20) : error.start + 10]
        raise DataError(f"{file.name}:{line}: not UTF-8 near {shown!r}; save the file as UTF-8") from error
