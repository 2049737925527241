"""Files of this machine and objects in buckets (s3://, gs://, az://), by one set of functions.

Buckets need the extra `cloud`. Credentials, region and endpoint are the environment's, as for the vendors' tools
(AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL ...).
"""

import fnmatch
import glob
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import FusionkitError, InputError, OptionError, OutputError
from ..extras import install
from .atomic import atomic_write

REMOTE = re.compile(r"^(s3|gs|az):/{1,2}([^/]+)/?(.*)$")  # one slash where a Path has swallowed the other
BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
SPECIAL = re.compile(r"[*?\[]")
MOST_NUMBERS = 1_000_000


def expand(pattern: str) -> list[str]:
    """Addresses that match a pattern: *, ? and [...] match existing names, {000..123} counts."""
    braces = BRACES.search(pattern)
    if braces:
        first, last = braces.groups()
        if int(last) - int(first) >= MOST_NUMBERS:
            raise OptionError(f"{pattern}: counts to more than {MOST_NUMBERS}; give fewer at a time")
        numbers = range(int(first), int(last) + 1)
        parts = (f"{pattern[: braces.start()]}{n:0{len(first)}d}{pattern[braces.end() :]}" for n in numbers)
        return [address for part in parts for address in expand(part)]
    bucket, key = _split(pattern)
    special = SPECIAL.search(key if bucket else pattern)
    if not special:
        return [full_address(pattern)]
    if not bucket:
        return sorted(glob.glob(pattern))
    prefix = key[: special.start()].rpartition("/")[0]
    with _plain_words(pattern, InputError):
        listed = [item["path"] for page in _objects().list(_bucket(bucket), prefix or None) for item in page]
    return [f"{bucket}/{path}" for path in sorted(listed) if fnmatch.fnmatchcase(path, key)]


def full_address(text: str) -> str:
    """The address that a Path swallowed a slash of; a path as it is."""
    bucket, key = _split(text)
    return f"{bucket}/{key}" if bucket else text


def beside(folder: str, name: str) -> str:
    """Address of a name in a folder or below a prefix."""
    bucket, key = _split(folder)
    return f"{bucket}/{key.strip('/')}/{name}".replace("//" + name, "/" + name) if bucket else str(Path(folder) / name)


def tag(address: str) -> dict[str, Any] | None:
    """State of a file or object: bytes, and modification time or tag; None where there is none."""
    bucket, key = _split(address)
    if not bucket:
        path = Path(address)
        return {"bytes": path.stat().st_size, "modified_ns": path.stat().st_mtime_ns} if path.is_file() else None
    with _plain_words(address, InputError):
        try:
            found = _objects().head(_bucket(bucket), key)
        except FileNotFoundError:
            return None
    return {"bytes": found["size"], "tag": found["e_tag"]}


def read_text(address: str) -> str:
    """Text of a small file; empty where it is missing."""
    bucket, key = _split(address)
    if not bucket:
        path = Path(address)
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    with _plain_words(address, InputError):
        try:
            return bytes(_objects().get(_bucket(bucket), key).bytes()).decode(errors="replace")
        except FileNotFoundError:
            return ""


@contextmanager
def fetched(address: str, folder: Path) -> Iterator[Path]:
    """The file itself, or a copy of the object in `folder` inside the block."""
    bucket, key = _split(address)
    if not bucket:
        yield Path(address)
        return
    copy = folder / (key.rpartition("/")[2] or "object")
    with _plain_words(address, InputError), copy.open("wb") as stream:
        for part in _objects().get(_bucket(bucket), key).stream(min_chunk_size=8 * 2**20):
            stream.write(part)
    try:
        yield copy
    finally:
        copy.unlink(missing_ok=True)


def store(path: Path, address: str) -> None:
    """Put a file's contents at an address, whole or not at all."""
    bucket, key = _split(address)
    if bucket:
        with _plain_words(address, OutputError), path.open("rb") as stream:
            _objects().put(_bucket(bucket), key, stream)
        return
    target = Path(address)
    with atomic_write(target) as temporary:
        shutil.copyfile(path, temporary)


def _split(address: str) -> tuple[str, str]:
    """Bucket, as scheme://name, and key; a path has an empty bucket."""
    found = REMOTE.match(address)
    return (f"{found[1]}://{found[2]}", found[3]) if found else ("", address)


def _objects() -> Any:
    try:
        import obstore
    except ImportError:
        raise OptionError(f"addresses such as s3:// need obstore: {install('cloud')}") from None
    return obstore


def _bucket(bucket: str) -> Any:
    from obstore.store import from_url

    plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")  # a server of one's own
    return from_url(bucket, client_options={"allow_http": True} if plain else None)


@contextmanager
def _plain_words(address: str, kind: type[FusionkitError]) -> Iterator[None]:
    """Turn an object store's exceptions into one line, without their nested reports."""
    try:
        yield
    except FusionkitError:
        raise
    except FileNotFoundError:
        raise kind(f"{address}: there is no such object") from None
    except Exception as error:  # obstore has an exception for each vendor's refusals
        reason = re.sub(r"\s+", " ", str(error)).split("Debug source:")[0].strip()[:200]
        raise kind(f"{address}: the object store says: {reason}") from None
