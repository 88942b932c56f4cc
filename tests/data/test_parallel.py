"""Processes that share work out: what Ctrl-C does to them."""

import os
import signal
import time
from pathlib import Path

from disa.data.parallel import process_pool

WORKERS = 3


def arrive(folder: Path) -> bool:
    """Wait until all workers are here, so that each has one task; return whether this one ignores Ctrl-C."""
    (folder / str(os.getpid())).touch()
    until = time.monotonic() + 60
    while len(list(folder.iterdir())) < WORKERS and time.monotonic() < until:
        time.sleep(0.01)
    return signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_every_process_leaves_ctrl_c_to_its_parent(tmp_path: Path):
    """The pool starts one process for each submission: all of them, not the first alone, must inherit this."""
    before = signal.getsignal(signal.SIGINT)
    with process_pool(WORKERS) as pool:
        assert list(pool.map(arrive, [tmp_path] * WORKERS)) == [True] * WORKERS
    assert len(list(tmp_path.iterdir())) == WORKERS
    assert signal.getsignal(signal.SIGINT) == before
