"""Search by scoring every item. Plain TensorFlow operations; what every other index is held against."""

import tensorflow as tf

from components.index_builder.index import Effort, Index, best


class ExactIndex(Index):
    """All products of a query with the table of embeddings, which the servable has in any case."""

    kind = "exact"

    def __init__(self, table: tf.Variable) -> None:
        """`table` [N + 1, D] is not copied; row 0 is no item."""
        super().__init__(name="index")
        self.num_items = int(table.shape[0]) - 1
        self.table = table

    def search(self, queries: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
        """As Index.search; never misses."""
        return best(tf.matmul(queries, self.table, transpose_b=True), count)

    def bytes_read(self, effort: Effort) -> float:
        """The whole table."""
        del effort
        return 4.0 * self.num_items * int(self.table.shape[1])
