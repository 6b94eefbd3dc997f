"""Which code a run ran: in the lineage, and in TFX's cache, which knows parameters and not code."""

import hashlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("pipeline", "components", "trainer", "serving")


def code_version(packages: Sequence[str] = PACKAGES) -> str:
    """A hash of every Python file of packages that can be imported, wherever they are: 12 hexadecimal digits."""
    digest = hashlib.sha256()
    for package in packages:
        found = find_spec(package)
        if found is None or not found.submodule_search_locations:
            raise ModuleNotFoundError(f"no package {package!r} can be imported; install the project: make setup")
        folder = Path(next(iter(found.submodule_search_locations)))
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"{package}/{path.relative_to(folder)}".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
