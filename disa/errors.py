"""Errors that a user can mend: one line that names the file or value and the remedy."""


class DisaError(Exception):
    """A mistake in the input, not in the program. The command line prints it in one line and exits with code 2."""
