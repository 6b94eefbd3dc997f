"""What can go wrong after a push, as a tree. Every message says what failed, what was got, what to do.

ServingError
├── RegistryError    the registry refuses a step, or cannot be read
├── ReleaseError     the files of a version are missing, incomplete or in the way
├── ModelNotFound    no such model, or no such version is being served
├── InvalidInput     a request does not fit the signature that it names
├── NotOffered       a method of TF Serving's API that this server does not have
├── ModelBroken      a version cannot be loaded, or fails its warm-up
│   └── NoRoom       it does not fit into memory now; it may later
├── ModelFailed      a loaded model failed on a valid request
├── Overloaded       more requests wait than the server is to hold; nothing was tried
├── DeadlineExceeded the caller's time was over before there was an answer
├── StartFailed      the server cannot start (a port in use, a path that is a file)
└── RequestFailed    seen by a client: the server's own words, or why there are none

None of them knows HTTP or gRPC: each adapter maps the tree to its protocol's codes.
"""


class ServingError(Exception):
    """Base of all errors of serving that are meant to be read by a person, without a traceback."""


class RegistryError(ServingError):
    """The registry refuses a step that would break its history, or it cannot be opened."""


class ReleaseError(ServingError):
    """The files of a version are missing, incomplete, or stand in the way."""


class ModelNotFound(ServingError):
    """The name or the version is not being served."""


class InvalidInput(ServingError):
    """The request does not fit: unknown signature, wrong names, dtypes or shapes, unreadable JSON."""


class NotOffered(ServingError):
    """TF Serving has this method, this server does not."""


class ModelBroken(ServingError):
    """A version cannot be loaded or does not survive its warm-up."""


class NoRoom(ModelBroken):
    """Loading the version would take more memory than is free."""


class ModelFailed(ServingError):
    """A loaded model failed on a request that fits its signature; the server's log has the details."""


class Overloaded(ServingError):
    """Refused at once, for too many wait already."""


class DeadlineExceeded(ServingError):
    """The time that the caller gave was over."""


class StartFailed(ServingError):
    """The server cannot start with the configuration that it was given."""


class RequestFailed(ServingError):
    """A client's view: the message of the server, or the reason why there was no answer."""
