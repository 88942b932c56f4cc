"""Run a command in this process, as `disa` would, and keep what it printed."""

import contextlib
import io
from collections.abc import Sequence
from typing import NamedTuple

from disa.interfaces.cli import main


class Result(NamedTuple):
    """What a command printed, and its exit code."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        """What a terminal shows: both streams, stdout first."""
        return self.stdout + self.stderr

    def fails(self, *facts: object) -> None:
        """Check that the command ended with 2 and one line on stderr, which holds these facts."""
        assert self.exit_code == 2, self.output
        assert self.stderr.startswith("error: ")
        assert self.stderr.count("\n") == 1
        for fact in facts:
            assert str(fact) in self.stderr


def invoke(*arguments: object) -> Result:
    """Run `disa ARGUMENTS`; also one list of arguments is taken."""
    only = arguments[0] if len(arguments) == 1 else None
    given = only if isinstance(only, Sequence) and not isinstance(only, str) else arguments
    stdout = io.StringIO()
    stderr = io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        try:
            code = main([str(argument) for argument in given])
        except SystemExit as leaving:  # tyro's way out after --help and mistakes in options
            code = int(leaving.code or 0)
    return Result(code, stdout.getvalue(), stderr.getvalue())
