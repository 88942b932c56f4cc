"""Ctrl-C and SIGTERM as a flag that a run looks at between two steps, so that it can save first."""

import signal
from types import FrameType, TracebackType
from typing import Any

INTERRUPTED = 130  # exit code of a command that was interrupted, as shells give it


class Interruption:
    """Turns the first SIGINT or SIGTERM into the flag `asked`; a second one ends the process."""

    def __init__(self) -> None:
        """Prepare a flag that is not set."""
        self.asked = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        """Install the handlers; in other threads than the main one, Python allows none."""
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._previous[number] = signal.signal(number, self._ask)
            except ValueError:
                break
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put the previous handlers back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        # With its usual effect back, a second Ctrl-C helps where no step comes to an end.
        self.asked = True
        signal.signal(number, self._previous[number])
