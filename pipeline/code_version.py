"""Which code a run ran: in the lineage, and in TFX's cache, which knows parameters and not code."""

import hashlib
from pathlib import Path

PACKAGES = ("pipeline", "components", "trainer", "serving")


def code_version(root: Path | None = None) -> str:
    """A hash of every Python file of the packages that learn, judge and pack: 12 hexadecimal digits."""
    root = root or Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for path in sorted(path for package in PACKAGES for path in (root / package).rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
