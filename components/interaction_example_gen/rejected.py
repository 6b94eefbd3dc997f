"""Rows that were refused, kept beside the examples: reason, file, line, and what stood there; CSV, gzip."""

import gzip
import io

import pyarrow as pa
import pyarrow.csv
import tensorflow as tf


def write_rejected(path: str, rows: pa.Table) -> None:
    """Writes rows [R] if there are any; a retry writes them over the old."""
    if not len(rows):
        return
    text = io.BytesIO()
    pa.csv.write_csv(rows, text)
    tf.io.gfile.makedirs(path.rsplit("/", 1)[0])
    with tf.io.gfile.GFile(path, "wb") as target:
        target.write(gzip.compress(text.getvalue(), compresslevel=1, mtime=0))
