"""Ctrl-C and SIGTERM as a flag: a run looks at it between two steps and saves before it stops."""

import signal
from types import FrameType, TracebackType
from typing import Any

# Exit code of a command that was interrupted, as shells give it.
INTERRUPTED = 130


class Interruption:
    """Turns the first SIGINT or SIGTERM into the flag `asked`; a second one ends the process."""

    def __init__(self) -> None:
        """Prepare a flag that is not set."""
        self.asked = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        """Install the handlers."""
        # SIGTERM is what clusters send before they take a machine away.
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._previous[number] = signal.signal(number, self._ask)
            except ValueError:
                # Python allows handlers in the main thread alone.
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
        # The usual effect is back, so a second Ctrl-C ends a run whose step never ends.
        self.asked = True
        signal.signal(number, self._previous[number])
