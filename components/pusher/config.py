"""What the Pusher keeps. A leaf of the pipeline's configuration; docs/registry.md says what is never removed."""

from pydantic import Field
from pydantic.dataclasses import dataclass

from trainer.features import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PusherConfig:
    """Of versions, the live one and the newest `keep_versions` - 1 retired ones keep their files."""

    keep_versions: int = Field(default=10, ge=2)  # the live one, and at least one to go back to
