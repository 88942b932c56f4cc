"""Errors that a user can correct: one line that names the file or value, and the remedy."""

from collections.abc import Iterator
from contextlib import contextmanager


class DisaError(Exception):
    """A mistake in the input, not in the program.

    The command line prints it in one line and exits with code 2.
    """


def one_line(error: Exception) -> str:
    """Return what an exception says, in one line; its kind if it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def memory_errors_as(message: str) -> Iterator[None]:
    """Raise a `DisaError` that says `message` where memory runs out in this block.

    Python has a `MemoryError` for it; PyTorch has a message, of other words on each device.
    """
    said = ("out of memory", "can't allocate memory", "not enough memory")
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and not any(words in str(error) for words in said):
            raise
        raise DisaError(message) from error
