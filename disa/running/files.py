"""Writing files whole or not at all, trying folders before any work, and checksums."""

import hashlib
import json
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

from disa.errors import DisaError
from disa.running.drafts import draft, remove_abandoned

# Of a picture: about 12,000 x 8,300. Cameras make smaller ones, and larger ones fill a laptop's
# memory.
MAX_PIXELS = 100_000_000

T = TypeVar("T")


def make_folder(folder: Path) -> None:
    """Make the folder. Raises `DisaError` if that does not work."""
    with writing(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise DisaError(
                f"{folder}: is a file, not a folder; choose another place for the results"
            ) from None


def prepare_folder(folder: Path) -> None:
    """Make the folder, try to write into it, and remove what killed processes left half written.

    Raises `DisaError` if that does not work.
    """
    make_folder(folder)
    # Permissions do not tell about full disks and network drives; a file that is written does.
    with writing(folder), tempfile.TemporaryFile(dir=folder):
        pass
    remove_abandoned(folder)


@contextmanager
def writing(
    path: Path,
    remedy: str = "free space or choose another folder",
    refusals: tuple[type[Exception], ...] = (OSError,),
) -> Iterator[None]:
    """Raise a `DisaError` that names `path` where the disk refuses in this block."""
    try:
        yield
    except refusals as error:
        reason = getattr(error, "strerror", None) or error
        raise DisaError(f"{path}: cannot be written ({reason}); {remedy}") from error


def at_home(path: str | os.PathLike[str]) -> Path:
    """Return a path whose `~/` at the start is the user's home folder, as in shells."""
    return Path(home_expanded(os.fspath(path)))


def home_expanded(text: str) -> str:
    """Return a text with the user's home folder for `~/` at the start."""
    # A name after the tilde is another user's home in shells, here it is a file's.
    is_home = text.startswith(("~/", "~\\"))
    return os.path.expanduser(text) if is_home else text  # noqa: PTH111


def refuse_existing(folder: Path) -> None:
    """Raise `DisaError` unless the folder is still to be made, or empty."""
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise DisaError(f"{folder}: exists already; choose another folder, or delete it")


def cache_folder() -> Path:
    """Return where disa keeps what can be made again: $DISA_CACHE, else the user's cache folder."""
    if own := os.environ.get("DISA_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "disa"


def prepare_file(path: Path) -> None:
    """Make the folder of a file to be written. Raises `DisaError` if the file cannot be written."""
    if path.is_dir():
        raise DisaError(
            f"{path}: is a folder; name the file to write, such as {path / 'result.json'}"
        )
    if not _is_stream(path):
        prepare_folder(path.parent)
    elif not os.access(path, os.W_OK):
        raise DisaError(f"{path}: cannot be written (Permission denied); choose another file")


def write_whole(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Let `write` fill a file that appears at `path` in one step.

    A device, a pipe and this process's own output are written to, as they are no files to replace.
    Raises `DisaError` if the disk refuses.
    """

    def fill(part: Path) -> None:
        with part.open("wb") as file:
            write(file)

    with writing(path):
        if _is_stream(path):
            with _open_stream(path) as stream:
                write(stream)
        else:
            replace_file(path, fill)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file that appears in one step. Raises `DisaError` if the disk refuses."""
    write_whole(path, lambda file: file.write(content))


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text that appears in one step. Raises `DisaError` if the disk refuses."""
    write_bytes(path, text.encode())


def write_json(path: Path, data: Any, indent: int = 1) -> None:
    """Write plain data as JSON that appears in one step. Raises `DisaError` if the disk refuses."""
    write_text(path, json.dumps(data, indent=indent) + "\n")


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a draft of `path`, then put it in place.

    No reader ever sees half a file, and an interruption leaves the old file or the new one. A link
    is replaced, not followed. Raises what `write` and the disk raise.
    """
    with draft(path) as part:
        part.touch()
        mode = part.stat().st_mode
        write(part)
        # Some writers let only the owner read a file; this one gets the user's usual permissions.
        part.chmod(mode)
        part.replace(path)


def write_folder(path: Path, write: Callable[[Path], T]) -> T:
    """Let `write` fill a draft of a folder, then put it in place; return what `write` does.

    It appears whole or not at all. Raises `DisaError` if the disk refuses, and if there is a folder
    with something in it.
    """
    prepare_folder(path.parent)
    try:
        with draft(path) as part:
            part.mkdir()
            written = write(part)
            if path.is_dir():
                path.rmdir()
            part.rename(path)
    except OSError as error:
        raise DisaError(
            f"{path}: cannot be written ({error.strerror}); free space or choose another folder"
        ) from None
    return written


def _is_stream(path: Path) -> bool:
    """Tell whether a path is no file to be replaced: a device, a pipe, or our own output."""
    try:
        status = path.stat()
    except OSError:
        return False
    if _own_output(status) is not None:
        return True
    return not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode))


def _open_stream(path: Path) -> IO[bytes]:
    own = _own_output(path.stat())
    if own is None:
        return path.open("wb")
    # Opened by its name, a file that the shell redirects to would be cut to nothing.
    sys.stdout.flush()
    sys.stderr.flush()
    return open(os.dup(own), "wb")  # noqa: PTH123


def _own_output(status: os.stat_result) -> int | None:
    """Return the number of this process's stdout or stderr if it is the file of this status."""
    for number in (1, 2):
        try:
            is_own = os.path.samestat(status, os.fstat(number))
        except OSError:  # closed
            continue
        if is_own:
            return number
    return None


def sync(path: Path) -> None:
    """Make the system write a file, or a folder's list of files, to the disk."""
    # Windows opens no folder.
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_sha256(path: Path) -> str:
    """Return a file's sha256 in hexadecimal, as `sha256sum` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def text_sha256(texts: Iterable[str]) -> str:
    """Return the sha256 of texts, a line each, in hexadecimal."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
