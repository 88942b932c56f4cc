"""Ray itself: whether it is installed, and the cluster that a run is connected to."""

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from disa.errors import DisaError, one_line
from disa.running.extras import imported


def ray_module() -> Any:
    """Return Ray with its data sets. Raises `DisaError` if it, an extra, is not installed."""
    imported("--on ray", "ray", "ray.data")
    return imported("--on ray", "ray", "ray")


@contextmanager
def connected(ray: Any, address: str | None) -> Iterator[None]:
    """Connect to a cluster, or start one, unless this process has one.

    Raises `DisaError` if it cannot be reached, or fails.
    """
    logger = logging.getLogger("ray.data")
    level = logger.level
    on_sigterm = signal.getsignal(signal.SIGTERM)
    is_own = not ray.is_initialized()
    try:
        if is_own:
            _connect(ray, address)
            # Ray takes it, in a program's first thread.
            if signal.getsignal(signal.SIGTERM) is not on_sigterm:
                signal.signal(signal.SIGTERM, on_sigterm)
        logger.setLevel(logging.CRITICAL)
        yield
    except (ray.exceptions.RayTaskError, ray.exceptions.UserCodeException):
        raise  # a mistake of the program
    except ray.exceptions.RayError as error:
        raise DisaError(
            f"the cluster fails ({type(error).__name__}: {one_line(error)[:200]}); mend it, and "
            "the same command goes on"
        ) from None
    finally:
        logger.setLevel(level)
        if is_own:
            ray.shutdown()


def _connect(ray: Any, address: str | None) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent unasked
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it warns of what all workers do
    # Without a word Ray would look for a cluster that once ran on this machine.
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    try:
        ray.init(address=address, logging_level=logging.CRITICAL, log_to_driver=False)
    except Exception as error:  # of many kinds
        where = "Ray cannot start" if address == "local" else f"{address}: no cluster answers"
        raise DisaError(f"{where} ({one_line(error)[:200]})") from None
