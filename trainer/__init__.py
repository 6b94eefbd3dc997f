"""Everything that learns. Ships alone to a training container.

TensorFlow Recommenders 0.7 is written against Keras 2. TensorFlow chooses the Keras behind `tf.keras` once, the first
time it is used, from this variable; so it stands here, before any module of the package can use it.
"""

import os

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
