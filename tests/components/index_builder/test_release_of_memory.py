"""A version that goes leaves no copy of its index in the server's memory."""

import gc

import numpy as np
import psutil
import tensorflow as tf

from components.index_builder.index import Effort
from components.index_builder.scann_index import ScannIndex
from serving.model import load_model

NUM_ITEMS, DIM = 120_000, 64
INDEX_BYTES = NUM_ITEMS * DIM * 4  # 31 MB of vectors, the codes beside them


class Searcher(tf.Module):
    """As the servable has it: an index, a signature, `release`."""

    def __init__(self, vectors):
        super().__init__()
        self.index = ScannIndex(vectors, num_leaves=50)
        self.index.effort = Effort(2, 20)
        self.release = tf.function(self.index.release, input_signature=[], autograph=False)


def test_versions_that_come_and_go_leave_nothing(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(NUM_ITEMS, DIM)).astype(np.float32)
    searcher = Searcher(vectors)
    search = tf.function(lambda queries: {"rows": searcher.index.search(queries, 5)[0]}, autograph=False)
    spec = tf.TensorSpec([None, DIM], tf.float32, name="queries")
    options = tf.saved_model.SaveOptions(namespace_whitelist=["Scann"])
    signatures = {"serving_default": search.get_concrete_function(spec)}
    tf.saved_model.save(searcher, str(tmp_path), signatures=signatures, options=options)

    def serve_and_close():
        model = load_model(tmp_path, 1)
        before = model.predict("serving_default", {"queries": vectors[:3]})["rows"]
        model.close()
        again = model.predict("serving_default", {"queries": vectors[:3]})["rows"]  # a late call is answered
        np.testing.assert_array_equal(before, again)
        model.close()
        del model
        gc.collect()
        return psutil.Process().memory_info().rss

    sizes = [serve_and_close() for _ in range(6)]
    assert sizes[-1] - sizes[1] < INDEX_BYTES  # the first makes the allocator's pools; four copies are 122 MB at least
