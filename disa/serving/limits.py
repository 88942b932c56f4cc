"""How much a server takes from its clients. Free of heavy imports: help shows these options."""

from dataclasses import dataclass

from disa.errors import DisaError

MEGABYTE = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the server takes; a request beyond it is refused with the remedy."""

    max_megabytes: int = 20  # Megabytes of one picture's file.
    # Pixels of one picture, judged by its header before anything is decoded.
    max_pixels: int = 25_000_000
    max_labels: int = 200  # Labels of one request, those of the background included.
    max_label_length: int = 200  # Characters of one label.
    # Pictures that are kept to be asked again; the one that was not used for longest goes first.
    max_sessions: int = 100
    # Megabytes of all kept pictures, with what the model saw in them.
    session_megabytes: int = 1000
    session_seconds: int = 900  # A picture goes when nobody has asked it for so many seconds.
    # Requests that are worked on or wait; more are refused with 429 until one is done.
    queue: int = 32
    timeout: int = 60  # Seconds that a request may take, its waiting included.

    def __post_init__(self) -> None:
        """Refuse limits that let nothing through. Raises `DisaError`."""
        for name, value in vars(self).items():
            if value < 1:
                raise DisaError(f"--{name.replace('_', '-')} {value}: must be at least 1")

    @property
    def picture_bytes(self) -> int:
        """Bytes of one picture's file."""
        return self.max_megabytes * MEGABYTE

    @property
    def session_bytes(self) -> int:
        """Bytes of all kept pictures."""
        return self.session_megabytes * MEGABYTE
