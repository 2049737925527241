"""How much memory there is, how much was taken, and how the C library hands it out."""

import ctypes
import sys

__all__ = ["free_memory", "keep_pages", "peak_memory_mb", "release_pages"]

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of mallopt, in malloc.h
KEPT, MAPPED = 256 * 2**20, 2**30


def keep_pages() -> None:
    """Ask glibc to reuse the pages of large blocks that were freed; without it, or elsewhere, nothing happens.

    By default every block over 32 MB, a plane of 8 megapixels, is mapped and unmapped by itself, and the system clears
    its pages anew: three quarters of the time of 12 megapixels. For processes that are this program's own.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # Windows, macOS, musl
        return
    mallopt(MMAP_THRESHOLD, MAPPED)
    mallopt(TRIM_THRESHOLD, KEPT)


def release_pages() -> None:
    """Give the system back what glibc keeps of freed blocks; elsewhere nothing happens."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return


def peak_memory_mb() -> float | None:
    """Largest resident size of this process so far, in MB (1e6 bytes); None where the system does not tell."""
    for line in _lines("/proc/self/status"):  # getrusage would count what this program's parent had, before it began
        if line.startswith("VmHWM:"):
            return round(int(line.split()[1]) * 1024 / 1e6, 1)
    try:
        import resource
    except ImportError:  # Windows
        return None
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(size * (1 if sys.platform == "darwin" else 1024) / 1e6, 1)


def free_memory() -> int | None:
    """Bytes that this process can still take: the system's, its control group's, its own limit; None where not told."""
    found = [_available(), _of_group(), _of_limit()]
    known = [size for size in found if size is not None]
    return min(known) if known else None


def _available() -> int | None:
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _of_group() -> int | None:
    """Of a container: control groups, version 2."""
    limit, used = (next(iter(_lines(f"/sys/fs/cgroup/memory.{name}")), "") for name in ("max", "current"))
    return int(limit) - int(used) if limit.strip().isdigit() and used.strip().isdigit() else None


def _of_limit() -> int | None:
    """Of `ulimit -v`."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    taken = next((int(line.split()[1]) * 1024 for line in _lines("/proc/self/status") if line.startswith("VmSize:")), 0)
    return None if limit == resource.RLIM_INFINITY else limit - taken


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii") as stream:
            return stream.readlines()
    except (OSError, ValueError):
        return []
