"""Pictures that were uploaded and wait to be asked: dropped after a time, and by size."""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from disa.inference.segmenter import Session
from disa.serving.limits import MEGABYTE, Limits
from disa.serving.problems import Problem

GONE = "there is no such session (any more); upload the picture again"


@dataclass
class Kept:
    """A picture that the model has looked at, under a name that cannot be guessed."""

    opened: Session
    notes: tuple[str, ...] = ()  # what its owner should know of the picture
    id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    used: float = 0.0  # seconds of the store's clock


class Sessions:
    """A store for one thread. The picture that was not used for longest goes first."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self.nbytes = 0
        self.dropped = {"age": 0, "room": 0}  # how many went, by the reason
        self._clock = clock
        self._kept: OrderedDict[str, Kept] = OrderedDict()  # the longest unused first

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, kept: Kept) -> None:
        """Keep a picture; others go if there is no room. Raises `Problem` for one too large."""
        size = kept.opened.nbytes
        if size > self.limits.session_bytes:
            raise Problem(
                413,
                f"the picture takes {size / MEGABYTE:.0f} MB of memory, more than the "
                f"{self.limits.session_megabytes} for all; shrink it",
            )
        self.drop_old()
        while self._kept and (
            len(self._kept) >= self.limits.max_sessions
            or self.nbytes + size > self.limits.session_bytes
        ):
            self._drop(next(iter(self._kept)), "room")
        kept.used = self._clock()
        self._kept[kept.id] = kept
        self.nbytes += size

    def get(self, name: str) -> Kept:
        """Return a picture, which counts as used now. Raises `Problem` if it is gone."""
        self.drop_old()
        kept = self._kept.get(name)
        if kept is None:
            raise Problem(404, GONE)
        kept.used = self._clock()
        self._kept.move_to_end(name)
        return kept

    def remove(self, name: str) -> None:
        """Forget a picture. Raises `Problem` if it is gone."""
        self._drop(self.get(name).id)

    def drop_old(self) -> None:
        """Forget the pictures that nobody has asked for long."""
        oldest_use = self._clock() - self.limits.session_seconds
        for name in [name for name, kept in self._kept.items() if kept.used <= oldest_use]:
            self._drop(name, "age")

    def _drop(self, name: str, reason: str | None = None) -> None:
        self.nbytes -= self._kept.pop(name).opened.nbytes
        if reason is not None:
            self.dropped[reason] += 1
