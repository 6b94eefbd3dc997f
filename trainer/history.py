"""History encoders: what the interactions before it say of a user, for every position of a sequence at once.

Each turns embedded interactions [B, L, D], oldest first and padded at the end, with a mask [B, L] of the known ones,
into states [B, L + 1, D]. State p sums up the first p positions and is zero for p = 0, so one pass gives the query of
every target, and the last state is what a request is answered with.
"""

import tensorflow as tf

from trainer.config import TrainerConfig

HIDDEN = -1e9  # added to an attention score: exp of it is 0


def history_encoder(config: TrainerConfig, max_history: int) -> tf.keras.layers.Layer:
    """The encoder that the configuration names."""
    if config.history_encoder == "gru":
        return GruHistory(config.embedding_dim, config.dropout)
    if config.history_encoder == "transformer":
        return TransformerHistory(config, max_history)
    return MeanHistory(max_history)


class MeanHistory(tf.keras.layers.Layer):
    """A weighted mean of the last H interactions, the weight learned per lag (1 = the newest)."""

    def __init__(self, max_history: int) -> None:
        super().__init__(name="history")
        self._max_history = max_history
        self.lag_logits = self.add_weight(name="lag_logits", shape=[max_history], initializer="zeros")

    def call(self, embedded: tf.Tensor, known: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Interactions to states: [B, L, D], bool [B, L] → [B, L + 1, D]."""
        length = tf.shape(embedded)[1]
        lag = tf.range(length + 1)[:, tf.newaxis] - tf.range(length)[tf.newaxis, :]  # [L + 1, L], 1 = newest
        visible = tf.cast((lag >= 1) & (lag <= self._max_history), self.compute_dtype)
        weights = visible * tf.gather(tf.exp(self.lag_logits), tf.clip_by_value(lag - 1, 0, self._max_history - 1))
        mask = tf.cast(known, self.compute_dtype)
        total = tf.einsum("pl,bld->bpd", weights, mask[..., tf.newaxis] * embedded)
        return tf.math.divide_no_nan(total, tf.einsum("pl,bl->bp", weights, mask)[..., tf.newaxis])


class GruHistory(tf.keras.layers.Layer):
    """A gated recurrent unit over the sequence (GRU4Rec, Hidasi et al. 2016); unknown interactions are passed over."""

    def __init__(self, embedding_dim: int, dropout: float) -> None:
        super().__init__(name="history")
        self.dropout = tf.keras.layers.Dropout(dropout)
        self.gru = tf.keras.layers.GRU(embedding_dim, return_sequences=True, name="gru")

    def call(self, embedded: tf.Tensor, known: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Interactions to states: [B, L, D], bool [B, L] → [B, L + 1, D]."""
        states = self.gru(self.dropout(embedded, training=training), mask=known)
        return tf.pad(states, [[0, 0], [1, 0], [0, 0]])


class TransformerHistory(tf.keras.layers.Layer):
    """Blocks of causal self-attention (SASRec, Kang & McAuley 2018), normalised before each part (Xiong et al. 2020).

    Places are told apart by a learned bias per lag and head (Raffel et al. 2020, section 2.1), so a position means the
    same in a sequence of any length, and none attends further back than H.
    """

    def __init__(self, config: TrainerConfig, max_history: int) -> None:
        super().__init__(name="history")
        self.dropout = tf.keras.layers.Dropout(config.dropout)
        self.blocks = [AttentionBlock(config, max_history, f"block_{n}") for n in range(config.history_blocks)]
        self.norm = tf.keras.layers.LayerNormalization(epsilon=1e-6, name="norm")

    def call(self, embedded: tf.Tensor, known: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Interactions to states: [B, L, D], bool [B, L] → [B, L + 1, D]."""
        scale = tf.sqrt(tf.cast(tf.shape(embedded)[-1], embedded.dtype))  # as Vaswani et al. 2017, section 3.4
        states = self.dropout(embedded * scale, training=training)
        for block in self.blocks:
            states = block(states, known, training=training)
        return tf.pad(self.norm(states), [[0, 0], [1, 0], [0, 0]])


class AttentionBlock(tf.keras.layers.Layer):
    """Each position gathers from itself and the H − 1 before it, then thinks by itself."""

    def __init__(self, config: TrainerConfig, max_history: int, name: str) -> None:
        super().__init__(name=name)
        dim, heads = config.embedding_dim, config.history_heads
        self._max_history = max_history
        self._heads = heads
        self.before_attention = tf.keras.layers.LayerNormalization(epsilon=1e-6, name="before_attention")
        self.before_hidden = tf.keras.layers.LayerNormalization(epsilon=1e-6, name="before_hidden")
        self.project = tf.keras.layers.Dense(3 * dim, name="project")
        self.gather = tf.keras.layers.Dense(dim, name="gather")
        self.hidden = tf.keras.layers.Dense(4 * dim, activation="gelu", name="hidden")
        self.out = tf.keras.layers.Dense(dim, name="out")
        self.dropout = tf.keras.layers.Dropout(config.dropout)
        self.lag_bias = self.add_weight(name="lag_bias", shape=[max_history, heads], initializer="zeros")

    def call(self, states: tf.Tensor, known: tf.Tensor, training: bool = False) -> tf.Tensor:
        """[B, L, D], bool [B, L] → [B, L, D]."""
        attended = self._attend(self.before_attention(states), known, training)
        states += self.dropout(self.gather(attended), training=training)
        hidden = self.dropout(self.hidden(self.before_hidden(states)), training=training)
        return states + self.dropout(self.out(hidden), training=training)

    def _attend(self, states: tf.Tensor, known: tf.Tensor, training: bool) -> tf.Tensor:
        batch, length, dim = tf.unstack(tf.shape(states))
        split = tf.reshape(self.project(states), [batch, length, 3, self._heads, dim // self._heads])
        query, key, value = tf.unstack(tf.transpose(split, [2, 0, 3, 1, 4]))  # [B, heads, L, D / heads]
        lag = tf.range(length)[:, tf.newaxis] - tf.range(length)[tf.newaxis, :]
        bias = tf.gather(self.lag_bias, tf.clip_by_value(lag, 0, self._max_history - 1))  # [L, L, heads]
        is_seen = (lag >= 0) & (lag < self._max_history)
        # an unknown interaction is seen by itself alone: a softmax over nothing has no value
        is_seen &= known[:, tf.newaxis, tf.newaxis, :] | (lag == 0)
        scale = tf.math.rsqrt(tf.cast(tf.shape(key)[-1], key.dtype))
        scores = tf.matmul(query, key, transpose_b=True) * scale + tf.transpose(bias, [2, 0, 1])
        weights = tf.nn.softmax(tf.where(is_seen, scores, tf.cast(HIDDEN, scores.dtype)))
        gathered = tf.matmul(weights, value)
        return tf.reshape(tf.transpose(gathered, [0, 2, 1, 3]), [batch, length, dim])
