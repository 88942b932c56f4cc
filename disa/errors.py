"""Errors that a user can mend: one line that names the file or value and the remedy."""


class DisaError(Exception):
    """A mistake in the input, not in the program. The command line prints it in one line and exits with code 2."""


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: `MemoryError` in Python; PyTorch has a message, of other words on each device."""
    said = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(it in str(error) for it in said))
