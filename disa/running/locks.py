"""Locks of the operating system: they are released however their process ends (D96)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from disa.errors import DisaError


@contextmanager
def hold(path: Path, patience: float, busy: str) -> Iterator[None]:
    """Keep out other processes that hold the same lock file; its folder must be there.

    Raises `DisaError`, which says `busy`, if another one holds it for `patience` seconds (negative:
    wait for ever), and for what is no lock file.
    """
    if path.is_symlink() or path.is_dir():
        raise DisaError(f"{path}: is a link or a folder, where disa keeps a lock file; remove it")
    lock = FileLock(path, timeout=patience)
    try:
        lock.acquire()
    except Timeout:
        raise DisaError(busy) from None
    except (OSError, NotImplementedError) as error:
        raise DisaError(
            f"{path}: cannot be locked ({error}); choose a folder on another drive"
        ) from None
    try:
        yield
    finally:
        lock.release()
