"""What can go wrong, as a tree. Every message says what failed, what was got, what was expected, what to do.

EvergreenError
├── DataError          an input file cannot be used (missing, unreadable, wrong columns)
├── DataStopped        the data was read and found unfit: the gate stopped the run
│   └── NothingNew     there is nothing that production has not learned
├── BuildError         a model or an index cannot be built
├── ServableError      a servable did not answer as it must
├── QuarantinedBefore  what is to be pushed was taken out as bad before
└── RunFailed          a node of a run failed or was skipped
"""


class EvergreenError(Exception):
    """Base of all errors that are meant to be read by a person, without a traceback."""


class DataError(EvergreenError):
    """An input file cannot be used; the message names file, line and column where they are known."""


class DataStopped(EvergreenError):
    """The data was read and found unfit; the message gives the reasons with their figures."""


class NothingNew(DataStopped):
    """Production has learned all there is: no fault, and nothing to do until more comes."""


class BuildError(EvergreenError):
    """A model or an index cannot be built from what it was given."""


class ServableError(EvergreenError):
    """A servable did not load, or did not answer as its signatures promise."""


class QuarantinedBefore(EvergreenError):
    """What is to be pushed was in production, and a person took it out as bad; the message names both and why."""


class RunFailed(EvergreenError):
    """A node of a run failed or was skipped; the message names it and its reason."""
