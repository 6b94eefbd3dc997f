"""What can go wrong between here and a cluster.

ClusterError       the server refused, or would refuse, what it was given
├── Unreachable    no answer within seconds
└── NotFound       the server answered, and does not know what was asked for
"""

from components.errors import EvergreenError


class ClusterError(EvergreenError):
    """Kubeflow Pipelines refused, or would refuse; the message says what to change."""


class Unreachable(ClusterError):
    """Nothing answers at the host within seconds."""


class NotFound(ClusterError):
    """The server answered, and does not know what was asked for."""
