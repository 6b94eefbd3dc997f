"""Where the model lives while it learns: one machine, several GPUs of one, or several machines in step.

N replicas learn from N · `batch_positions` a step, as one would with N times the batch: the same users, dealt
out in the order of the same seed, and the same loss; only the in-batch negatives of the sampled softmax are each
replica's own. The learning rate is taken as it is written.
"""

import tensorflow as tf


def strategy() -> tf.distribute.Strategy:
    """Several workers where `TF_CONFIG` names a cluster, several GPUs where there are, else TensorFlow's default.

    `TF_CONFIG` is read by TensorFlow, not here; whoever starts the processes sets it, as the Kubeflow training
    operator does. It must be called before any operation runs: TensorFlow opens the cluster's channel only then.
    """
    if tf.distribute.cluster_resolver.TFConfigClusterResolver().cluster_spec().jobs:
        return tf.distribute.MultiWorkerMirroredStrategy()
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def worker_index(strategy: tf.distribute.Strategy) -> int:
    """Which of the workers this process is. 0 is the chief: it alone writes, for all hold the same variables.

    TensorFlow's guide lets every worker save, to folders of their own, because a variable that is summed when it is
    read needs them all. This model has none.
    """
    resolver = strategy.cluster_resolver
    if resolver is None:
        return 0
    is_chief = resolver.task_type == "chief"
    return resolver.task_id + (0 if is_chief else len(resolver.cluster_spec().as_dict().get("chief", ())))


def equal_share() -> float:
    """This replica's part of what all replicas add alike: 1 / N."""
    context = tf.distribute.get_replica_context()
    return 1.0 if context is None else 1.0 / context.num_replicas_in_sync


def share(total: tf.Tensor) -> tf.Tensor:
    """This replica's part of the sum of `total` over all replicas, 0..1: [...] → [...]; 1 where there is one replica.

    Gradients are added over the replicas, so each must bring its part of the global mean. A mean of means would give
    a replica with few targets, or none at the end of an epoch, the say of one with many:

        Σ_r share(W_r) · mean_r  =  Σ_r (W_r / W) · (Σ_t w_t l_t / W_r)  =  Σ_t w_t l_t / W
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return tf.ones_like(total)
    return tf.math.divide_no_nan(total, context.all_reduce(tf.distribute.ReduceOp.SUM, total))
