"""Processes that share work out: what Ctrl-C does to them."""

import os
import signal
import time
from pathlib import Path

import pytest

from disa.data.parallel import _interruption_put_off, process_pool
from disa.errors import DisaError

WORKERS = 3


def arrive(folder: Path) -> bool:
    """Wait until all workers are here, so that each has one task; return whether this one is deaf to Ctrl-C."""
    (folder / str(os.getpid())).touch()
    until = time.monotonic() + 60
    while len(list(folder.iterdir())) < WORKERS and time.monotonic() < until:
        time.sleep(0.01)
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_every_process_leaves_ctrl_c_to_its_parent(tmp_path: Path):
    """The pool starts one process for each submission: all of them, not the first alone, must inherit this."""
    before = signal.getsignal(signal.SIGINT)
    with process_pool(WORKERS, "") as pool:
        assert list(pool.map(arrive, [tmp_path] * WORKERS)) == [True] * WORKERS
    assert len(list(tmp_path.iterdir())) == WORKERS
    assert signal.getsignal(signal.SIGINT) == before
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_ctrl_c_while_a_process_starts_is_not_lost():
    with pytest.raises(KeyboardInterrupt), _interruption_put_off():
        signal.raise_signal(signal.SIGINT)
        started = True
    assert started


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_dies_is_one_error_with_the_remedy():
    said = "a process died, perhaps for lack of memory; buy some"
    with pytest.raises(DisaError, match=said), process_pool(1, "buy some") as pool:
        pool.submit(killed).result()
