"""Processes that share work out: what Ctrl-C and a dead process do to them."""

import os
import signal
import time
from pathlib import Path

import pytest
from refusals import refused

from disa.data.parallel import process_pool

WORKERS = 3


def arrive(folder: Path) -> bool:
    """Wait for all workers, so that each has one task; tell whether this one ignores Ctrl-C."""
    (folder / str(os.getpid())).touch()
    until = time.monotonic() + 60
    while len(list(folder.iterdir())) < WORKERS and time.monotonic() < until:
        time.sleep(0.01)
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.mark.slow
def test_every_process_leaves_ctrl_c_to_its_parent(tmp_path: Path):
    before = signal.getsignal(signal.SIGINT)
    with process_pool(WORKERS, "") as pool:
        assert list(pool.map(arrive, [tmp_path] * WORKERS)) == [True] * WORKERS
    assert len(list(tmp_path.iterdir())) == WORKERS
    assert signal.getsignal(signal.SIGINT) == before


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_process_that_dies_is_one_error_with_the_remedy():
    remedy = "buy some memory"
    with refused(remedy), process_pool(1, remedy) as pool:
        pool.submit(die).result()
