"""Whether a version fits into memory beside those that are served: asked before it is loaded, not after."""

from pathlib import Path

import psutil

from serving.errors import NoRoom

# An estimate: a servable's vectors are on disk once or twice, and in memory up to three times (ScaNN keeps a copy).
NEEDED_PER_BYTE = 2.0
CGROUPS = Path("/sys/fs/cgroup")


def available_bytes(cgroups: Path = CGROUPS) -> int:
    """What this process may still take: of the machine, or of its container (cgroup v2) where that has less."""
    free = int(psutil.virtual_memory().available)
    try:
        limit, used = ((cgroups / name).read_text().strip() for name in ("memory.max", "memory.current"))
        cached = dict(line.split() for line in (cgroups / "memory.stat").read_text().splitlines())
    except OSError:
        return free
    if limit == "max":
        return free
    return min(free, int(limit) - int(used) + int(cached.get("inactive_file", 0)))


def check_room(path: Path, available: int) -> None:
    """Raises NoRoom when the version in a folder needs more than what is `available`, in bytes."""
    on_disk = sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())
    needed = int(NEEDED_PER_BYTE * on_disk)
    if needed > available:
        raise NoRoom(
            f"it needs about {needed / 2**20:,.0f} MB of memory ({on_disk / 2**20:,.0f} MB on disk), and "
            f"{available / 2**20:,.0f} MB are free; give the server more, or serve fewer versions"
        )
