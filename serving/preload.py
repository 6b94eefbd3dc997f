"""What the process of every version begins with: multiprocessing's forkserver imports it, once, and nobody else.

It is exempt from garbage collection, so that the processes go on sharing its memory instead of copying it.
"""

import gc
import signal

import click  # noqa: F401  (a child imports serving.server again, as its `__main__`, and that needs these)

import serving.model_process
import serving.tls  # noqa: F401
from serving.model import register_scann_ops

signal.signal(signal.SIGTERM, signal.SIG_IGN)  # systemd sends it to all of a group: the server says when it is over
register_scann_ops()
gc.freeze()
