"""A training that goes on: Adam takes the step that it would have taken, and the rate is planned anew."""

import numpy as np
import pytest
import tensorflow as tf

from trainer.optimizer import Moments, Since, adam, moments_of

CONSTANT = tf.keras.optimizers.schedules.PiecewiseConstantDecay([1_000_000], [0.5, 0.5])


class Line(tf.keras.Model):
    """A point w [2] that a gradient pulls: the loss is its product with the batch."""

    def __init__(self, at=(0.0, 0.0)):
        super().__init__()
        self.w = tf.Variable(at, dtype=tf.float32)

    def train_step(self, gradient):
        self.optimizer.apply_gradients([(tf.reshape(gradient, [2]), self.w)])
        return {}


def pulled(model, gradients, schedule=CONSTANT, moments=None):
    model.compile(optimizer=adam(schedule, model.trainable_variables, moments), run_eagerly=True)
    model.fit(tf.data.Dataset.from_tensor_slices(tf.constant(gradients, tf.float32)), verbose=0)
    return model


def test_moments_by_hand():
    moments = moments_of(pulled(Line(), [[1.0, 0.0], [1.0, 2.0]]))
    assert moments.steps == 2
    # m: 0.1 g, then 0.9 m + 0.1 g; v: 0.001 g², then 0.999 v + 0.001 g²
    np.testing.assert_allclose(moments.first[0], [0.9 * 0.1 + 0.1, 0.1 * 2.0], rtol=1e-5)
    np.testing.assert_allclose(moments.second[0], [0.999 * 0.001 + 0.001, 0.001 * 4.0], rtol=1e-4)


def test_two_trainings_are_as_one():
    gradients = np.random.default_rng(0).normal(size=(7, 2))
    whole = pulled(Line(), gradients)
    first = pulled(Line(), gradients[:4])
    second = pulled(Line(first.w.numpy()), gradients[4:], moments=moments_of(first))
    np.testing.assert_allclose(second.w, whole.w, rtol=1e-5)
    then, at_once = moments_of(second), moments_of(whole)
    assert then.steps == at_once.steps == 7
    np.testing.assert_allclose(then.second[0], at_once.second[0], rtol=1e-5)


def test_the_correction_fits_the_moments_that_came_along():
    # after t steps of gradient 1: m = 1 − 0.9^t, v = 1 − 0.999^t. One more step of 1 moves w by the rate, whatever t
    m, v = np.full(2, 1 - 0.9**50, np.float32), np.full(2, 1 - 0.999**50, np.float32)
    model = pulled(Line(), [[1.0, 1.0]], moments=Moments(50, (m,), (v,)))
    np.testing.assert_allclose(model.w, [-0.5, -0.5], rtol=1e-4)


def test_the_rate_is_planned_anew():
    falling = tf.keras.optimizers.schedules.PolynomialDecay(1.0, decay_steps=10, end_learning_rate=0.0)
    after = Since(falling, begin=40)
    assert [float(after(tf.constant(step, tf.int64))) for step in (0, 40, 45, 50)] == [1.0, 1.0, 0.5, 0.0]
    m, v = np.full(2, 1 - 0.9**40, np.float32), np.full(2, 1 - 0.999**40, np.float32)
    model = pulled(Line(), [[1.0, 1.0]] * 2, schedule=falling, moments=Moments(40, (m,), (v,)))
    np.testing.assert_allclose(model.w, [-1.9, -1.9], rtol=1e-4)  # rates 1.0 and 0.9


def test_a_model_that_learned_nothing_has_none():
    model = Line()
    assert moments_of(model) is None
    model.compile(optimizer=adam(CONSTANT, model.trainable_variables))
    assert moments_of(model) is None


def test_moments_survive_their_file(tmp_path):
    rng = np.random.default_rng(3)
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in ((3, 2), (4,), (2, 2), (1,))]
    moments = Moments(7, tuple(arrays[:2]), tuple(arrays[2:]))
    moments.save(tmp_path / "moments.npz")
    read = Moments.load(tmp_path / "moments.npz")
    assert read.steps == 7
    for before, after in ((moments.first, read.first), (moments.second, read.second)):
        for one, other in zip(before, after, strict=True):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype


@pytest.mark.parametrize("moments", [None, Moments(40, (np.zeros(2, np.float32),), (np.zeros(2, np.float32),))])
def test_adam_is_built_where_it_is_told(moments):
    """In a strategy's scope, as a run of several GPUs makes it."""
    place = tf.distribute.MirroredStrategy(["CPU:0"])
    with place.scope():
        model = Line()
        model.compile(optimizer=adam(CONSTANT, model.trainable_variables, moments))
    model.fit(tf.data.Dataset.from_tensor_slices(tf.ones([1, 2])), verbose=0)
    assert moments_of(model).steps == (41 if moments else 1)
