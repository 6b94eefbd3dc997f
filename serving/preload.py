"""What the process of every version begins with: multiprocessing's forkserver imports it, once, and nobody else.

It is exempt from garbage collection, so that the processes go on sharing its memory instead of copying it.
"""

import gc

import serving.model_process
import serving.server  # noqa: F401  (a child imports it again, as its `__main__`)
from serving.model import register_scann_ops

register_scann_ops()
gc.freeze()
