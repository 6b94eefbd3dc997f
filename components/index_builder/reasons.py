"""Why each item is there, in a string that programs can split at `;` and people can read.

    source=personal;because=50         near to the user's taste; of the history, item 50 is nearest to it
    source=popular                     nothing is known of the user
    source=pinned                      a rule puts it first
    …;boost=genres=Comedy              a rule made it worth more, or less
    …;over_cap=true                    a rule caps what it is, but no other candidate was left

`because` comes last: an item id may have any character.
"""

import tensorflow as tf

from components.index_builder.servable import Answer, Query, Servable


def reasons(servable: Servable, query: Query, history: tf.Tensor, answer: Answer) -> tf.Tensor:
    """Reasons of the first K items of an answer; history rows [B, H] → string [B, K], '' where there is no item."""
    rows = answer.rows[:, : servable.top_k]
    cold = query.is_cold[:, tf.newaxis]
    source = tf.where(cold, "source=popular", "source=personal")
    source = tf.where(servable.rules.is_pinned(rows), "source=pinned", source)
    over = tf.where(answer.is_over[:, : servable.top_k], ";over_cap=true", "")
    nearest = tf.gather(history, _nearest(servable, history, rows), batch_dims=1)
    because = tf.where(cold, "", tf.strings.join([";because=", tf.gather(servable.item_ids, nearest)]))
    joined = tf.strings.join([source, *servable.rules.reasons(rows), over, because])
    return tf.where(rows > 0, joined, "")


def _nearest(servable: Servable, history: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Where in the history the item stands whose embedding is nearest to each item's: [B, H], [B, K] → int64 [B, K]."""
    shown, past = tf.gather(servable.embeddings, rows), tf.gather(servable.embeddings, history)
    affinity = tf.einsum("bkd,bhd->bkh", shown, past)
    return tf.argmax(tf.where((history > 0)[:, tf.newaxis, :], affinity, -float("inf")), axis=2)
