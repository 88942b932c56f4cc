"""Ctrl-C, SIGTERM and SIGHUP (a closed terminal): what they ask of a command (decision D137)."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

# Exit code of a command that was interrupted, as shells give it.
INTERRUPTED = 130
# Windows has no SIGHUP. SIGTERM is what clusters send before they take a machine away.
SIGNALS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]

Handler = Callable[[int, FrameType | None], Any]


class Interruption:
    """Turns the first of these signals into the flag `asked`; a second one stops the command.

    A run looks at the flag between two steps, and saves before it leaves.
    """

    def __init__(self) -> None:
        """Prepare a flag that is not set."""
        self.asked = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        """Install the handlers."""
        self._previous = _install(SIGNALS, self._ask)
        return self

    def __exit__(self, *error: object) -> None:
        """Put the previous handlers back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        # The usual effect is back, so a second Ctrl-C ends a run whose step never ends.
        self.asked = True
        signal.signal(number, self._previous[number])


@contextmanager
def like_ctrl_c() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise `KeyboardInterrupt`, as Ctrl-C does, while the block runs.

    So a command tidies up and says that it was interrupted. One of several processes that share a
    run may be waiting for the others, where no Python runs: there the signals end it at once.
    """
    previous = {}
    if os.environ.get("WORLD_SIZE", "1") == "1":
        previous = _install(SIGNALS[1:], signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _install(numbers: list[signal.Signals], handler: Handler) -> dict[int, Any]:
    """Install a handler and return the previous ones.

    Signals that are ignored stay so: `nohup` and a shell's `&` ask for that.
    """
    previous: dict[int, Any] = {}
    for number in numbers:
        if signal.getsignal(number) == signal.SIG_IGN:
            continue
        try:
            previous[number] = signal.signal(number, handler)
        except ValueError:
            # Python allows handlers in the main thread alone.
            break
    return previous
