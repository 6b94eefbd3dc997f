"""The doors of the servable: strings in, strings and scores out. Names, dtypes and shapes are a contract."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

from components.index_builder.index import NOT_FOUND
from components.index_builder.reasons import reasons
from components.index_builder.servable import Answer, History, Query, Servable
from trainer.features import IS_TARGET_KEY
from trainer.inputs import dense_sequences, unknown
from trainer.metrics import rank_of_target

Outputs = dict[str, tf.Tensor]


def signatures(servable: Servable, transform: tft.TFTransformOutput) -> dict[str, Any]:
    """All signatures of the servable, traced."""
    features = servable.learned.model.config.features
    layer = transform.transform_features_layer()
    servable.transform_layer = layer  # tracked, so that its tables are saved
    ids, table, text = _spec("user_id", 1), _spec("item_ids", 2), tf.string
    context_specs = {
        f.name: tf.TensorSpec([None], tf.float32 if f.type == "number" else text, f.name) for f in features.context
    }

    def transformed_context(values: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Raw context [B] → transformed [B]; '' or NaN where a caller knows nothing."""
        if not features.context:
            return {}
        outputs = layer({name: _one_each(value) for name, value in values.items()})
        return {
            f.name: tf.sparse.to_dense(
                tf.sparse.reset_shape(
                    outputs[f.name],
                    tf.stack([tf.shape(values[f.name], out_type=tf.int64)[0], tf.constant(1, tf.int64)]),
                )
            )[:, 0]
            for f in features.context
        }

    def unknown_context(batch: tf.Tensor) -> dict[str, tf.Tensor]:
        return {f.name: unknown(f, tf.shape(batch)) for f in features.context}

    def serving_default(user_id: tf.Tensor) -> Outputs:
        query, history = servable.query(servable.user_lookup(user_id), unknown_context(user_id))
        answer = servable.answer(query, servable.seen(history))
        return {"item_ids": _item_ids(servable, answer), "scores": _finite(answer.scores[:, : servable.top_k])}

    def recommend(
        user_id: tf.Tensor, history: tf.Tensor, exclude: tf.Tensor, allow: tf.Tensor, **context: tf.Tensor
    ) -> Outputs:
        user_rows, given = servable.user_lookup(user_id), servable.items(history)
        query, used = servable.query(user_rows, transformed_context(context), given)
        stored = History(tf.gather(servable.user_items, user_rows), tf.gather(servable.user_types, user_rows))
        seen = [servable.seen(history) for history in (servable.as_history(given), stored)]  # the query stands on one
        answer = servable.answer(query, tf.concat([servable.items(exclude), *seen], axis=1), allow)
        k = servable.top_k
        return {
            "item_ids": _item_ids(servable, answer),
            "scores": _finite(answer.scores[:, :k]),
            "retrieval_scores": _finite(answer.retrieval_scores[:, :k]),
            "reasons": reasons(servable, query, used.rows, answer),
        }

    def similar_items(item_id: tf.Tensor) -> Outputs:
        rows = servable.items(item_id)
        nobody = tf.zeros(tf.shape(rows), tf.bool)
        contexts = servable.popular.contexts(unknown_context(rows), tf.size(rows))
        query = Query(tf.gather(servable.embeddings, rows), nobody, contexts)
        found, products = servable.retrieve(query, rows[:, tf.newaxis])
        found = tf.where((rows > 0)[:, tf.newaxis], found, 0)[:, : servable.top_k]
        scores = tf.where(found > 0, products[:, : servable.top_k], NOT_FOUND)
        return {"item_ids": tf.gather(servable.item_ids, found), "scores": _finite(scores)}

    def rank(user_id: tf.Tensor, item_ids: tf.Tensor) -> Outputs:
        rows = servable.items(item_ids)
        query, _ = servable.query(servable.user_lookup(user_id), unknown_context(user_id))
        return {"scores": _finite(servable.scores(query, rows, servable.retrieval_scores(query, rows)))}

    def embed_query(user_id: tf.Tensor) -> Outputs:
        query, _ = servable.query(servable.user_lookup(user_id), unknown_context(user_id))
        return {"embedding": query.embedding}

    def embed_items(item_id: tf.Tensor) -> Outputs:
        return {"embedding": tf.gather(servable.embeddings, servable.items(item_id))}

    def evaluate(examples: tf.Tensor) -> Outputs:
        return _evaluate(servable, layer(tf.io.parse_example(examples, transform.raw_feature_spec())))

    def traced(function: Callable[..., Outputs], **specs: tf.TensorSpec) -> Any:
        return tf.function(function, autograph=False).get_concrete_function(**specs)

    item = _spec("item_id", 1)
    return {
        "serving_default": traced(serving_default, user_id=ids),
        "recommend": traced(
            recommend,
            user_id=ids,
            history=_spec("history", 2),
            exclude=_spec("exclude", 2),
            allow=_spec("allow", 2),
            **context_specs,
        ),
        "similar_items": traced(similar_items, item_id=item),
        "rank": traced(rank, user_id=ids, item_ids=table),
        "embed_query": traced(embed_query, user_id=ids),
        "embed_items": traced(embed_items, item_id=item),
        "evaluate": traced(evaluate, examples=_spec("examples", 1)),
    }


def _evaluate(servable: Servable, transformed: dict[str, Any]) -> Outputs:
    """What the Evaluator reads of sequence examples with one target each, all [B]:

    rank                 of the held-out item in the served list; N + 1 when it is not among the C candidates
    popularity_rank      the same under the training window's popularity, over all items
    strongest_probability  P(strongest type | some interaction) of the held-out pair
    target_popularity    position of the held-out item by popularity, 1 = the most popular
    history_length       how many interactions the query stood on
    """
    model = servable.learned.model
    batch = dense_sequences(transformed, model.config.features, servable.items, servable.types)
    is_target = batch[IS_TARGET_KEY]
    history = tf.where(is_target, tf.zeros_like(batch["item_rows"]), batch["item_rows"])
    target = tf.boolean_mask(batch["item_rows"], is_target)
    embedding = model.target_queries(batch, tf.gather(servable.embeddings, batch["item_rows"]))
    is_cold = ~tf.reduce_any(history > 0, axis=1)
    context = {f.name: tf.boolean_mask(batch[f.name], is_target) for f in model.config.features.context}
    query = Query(embedding, is_cold, servable.popular.contexts(context, tf.size(is_cold)))
    unwanted = servable.seen(History(history, batch["type_rows"]))
    answer = servable.answer(query, unwanted)
    hit = answer.rows == target[:, tf.newaxis]
    places = tf.where(hit, tf.range(1, tf.shape(hit)[1] + 1)[tf.newaxis, :], servable.num_items + 1)
    rank = tf.where(target > 0, tf.reduce_min(places, axis=1), servable.num_items + 1)
    popularity = tf.repeat(servable.popular.scores[tf.newaxis, 1:], tf.shape(target)[0], axis=0)
    shown = tf.where(servable.may_be_shown[1:], popularity, NOT_FOUND)  # as the model, it shows no item that is hidden
    nothing = tf.zeros([tf.shape(target)[0], 1], tf.int64)
    outcomes = tf.nn.softmax(servable.outcome_logits(query, target[:, tf.newaxis])[:, 0, :])
    return {
        "rank": tf.cast(rank, tf.float32),
        "popularity_rank": tf.cast(rank_of_target(shown, target, unwanted), tf.float32),
        "strongest_probability": outcomes[:, servable.strongest_row - 1],
        "target_popularity": tf.cast(rank_of_target(popularity, target, nothing), tf.float32),
        "history_length": tf.reduce_sum(tf.cast(history > 0, tf.float32), axis=1),
    }


def _finite(scores: tf.Tensor) -> tf.Tensor:
    """The lowest float in place of −inf, which JSON has no word for."""
    return tf.maximum(scores, tf.float32.min)


def _item_ids(servable: Servable, answer: Answer) -> tf.Tensor:
    return tf.gather(servable.item_ids, answer.rows[:, : servable.top_k])


def _one_each(values: tf.Tensor) -> tf.SparseTensor:
    """[B] → sparse [B, 1] with every value in it: `tf.sparse.from_dense` would drop the number 0."""
    size = tf.shape(values, out_type=tf.int64)[0]
    rows = tf.range(size)
    return tf.SparseTensor(tf.stack([rows, tf.zeros_like(rows)], axis=1), values, tf.stack([size, 1]))


def _spec(name: str, rank: int) -> tf.TensorSpec:
    return tf.TensorSpec([None] * rank, tf.string, name)
