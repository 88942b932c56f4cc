"""Drafts: whatever becomes a file or a folder in one step is made in a folder of its own first.

It lies beside its target, is called .disa-RANDOM.part and cannot be entered by other users, so
nobody can plant a link in it. Who makes it holds a lock of the operating system. A killed process
holds none, so the next command tells what it left behind from what others are making (D136).
"""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = ".lock"


@contextmanager
def draft(path: Path) -> Iterator[Path]:
    """Yield a place for a file or folder that is to be renamed to `path`; nothing is there yet.

    What is not renamed is removed at the end. Raises `OSError` if the disk refuses.
    """
    folder, lock = _unused(path.parent)
    # Ctrl-C may come at any moment, so there is nothing yet.
    try:
        while not _is_made(folder, lock):
            folder, lock = _unused(path.parent)
        yield folder / path.name
    finally:
        _remove(folder, lock)


def remove_folder(path: Path) -> None:
    """Remove a folder, if it is there; at no moment half of it has its name.

    What cannot be removed stays.
    """
    if not path.is_dir():
        return
    # Some file systems rename no folder of another layer; then it is removed where it is.
    with suppress(OSError), draft(path) as gone:
        path.rename(gone)
    shutil.rmtree(path, ignore_errors=True)


def remove_abandoned(folder: Path) -> None:
    """Remove the drafts in a folder that killed processes left behind; others' stay."""
    for left in folder.glob(".disa-*.part"):
        if left.is_symlink() or not left.is_dir():
            continue
        lock = FileLock(left / LOCK)
        # Held by a process that is alive; or the system knows no locks there, or forbids it.
        with suppress(Timeout, OSError, NotImplementedError):
            lock.acquire(timeout=0)
            _remove(left, lock)


def _unused(parent: Path) -> tuple[Path, FileLock]:
    """Return a name that nobody can foresee, and the lock that belongs to it."""
    folder = parent / f".disa-{secrets.token_hex(8)}.part"
    return folder, FileLock(folder / LOCK)


def _is_made(folder: Path, lock: FileLock) -> bool:
    """Make a draft's folder and take its lock; False if another process removed it meanwhile."""
    folder.mkdir(mode=0o700)
    try:
        lock.acquire(timeout=0)
    except (Timeout, FileNotFoundError):
        return False  # taken for abandoned, in the moment before the lock
    except (OSError, NotImplementedError):
        return True  # a drive without locks: nobody can tell, so nobody removes it
    return folder.exists()


def _remove(folder: Path, lock: FileLock) -> None:
    """Remove a draft whose lock is ours, as far as there is one."""
    shutil.rmtree(folder, ignore_errors=True)
    lock.release()
    # Windows removes no file that is open, such as a lock that is held.
    shutil.rmtree(folder, ignore_errors=True)
