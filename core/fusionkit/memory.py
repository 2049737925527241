"""Memory: the amount that is free, the peak that was used, and the pages that the C library keeps."""

import ctypes
import sys
from contextlib import suppress

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8  # parameters of mallopt, in malloc.h
KEPT, MAPPED = 256 * 2**20, 2**30
LARGEST = 2**25 - 2**16  # bytes: the largest block that glibc adapts to by itself, less its own heads


def keep_pages() -> None:
    """Let glibc reuse the pages of large freed blocks; other C libraries are left alone.

    By default it maps and unmaps every block over 32 MB (a plane of 8 megapixels), and the system clears the pages each
    time: three quarters of the time of 12 megapixels. Only for processes that are this program's own.
    """
    with suppress(AttributeError, OSError, TypeError):  # Windows, macOS, musl
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(MMAP_THRESHOLD, MAPPED)
        mallopt(TRIM_THRESHOLD, KEPT)
        mallopt(ARENA_MAX, 1)  # threads that read frames: arenas of their own map every block over 64 MB


def reuse_pages() -> None:
    """Let glibc reuse the pages of freed blocks up to 32 MB, the most that it comes to by itself.

    It does so once a program has freed a block of that size; until then most planes of a fusion are mapped, cleared by
    the system and unmapped again: a sixth of the time of 768x1024. This block is never touched, so it takes no memory.
    """
    with suppress(AttributeError, OSError, TypeError):  # Windows
        libc = ctypes.CDLL(None)
        allocate, free = libc.malloc, libc.free
        allocate.restype, allocate.argtypes, free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
        free(allocate(LARGEST))


def release_pages() -> None:
    """Return the pages that glibc keeps of freed blocks to the system; other C libraries are left alone."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def peak_memory_mb() -> float | None:
    """Largest resident size of this process so far, in MB (1e6 bytes); None where the system does not tell."""
    size = _stated("/proc/self/status", "VmHWM:")  # getrusage would include the parent's memory before the fork
    if size is None and resource is not None:
        size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return None if size is None else round(size / 1e6, 1)


def free_memory() -> int | None:
    """Bytes that this process can still take: the least of what the system, its container and `ulimit -v` allow.

    None where nothing is known.
    """
    sizes = [_stated("/proc/meminfo", "MemAvailable:")]
    limit, used = (next(iter(_lines(f"/sys/fs/cgroup/memory.{name}")), "").strip() for name in ("max", "current"))
    if limit.isdigit() and used.isdigit():  # control groups, version 2
        sizes.append(int(limit) - int(used))
    if resource is not None and (most := resource.getrlimit(resource.RLIMIT_AS)[0]) != resource.RLIM_INFINITY:
        sizes.append(most - (_stated("/proc/self/status", "VmSize:") or 0))
    return min((size for size in sizes if size is not None), default=None)


def _stated(path: str, key: str) -> int | None:
    """Bytes that a file of the kernel states in kB."""
    return next((int(line.split()[1]) * 1024 for line in _lines(path) if line.startswith(key)), None)


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii") as stream:
            return stream.readlines()
    except (OSError, ValueError):
        return []
