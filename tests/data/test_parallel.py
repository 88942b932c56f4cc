"""Processes that share work out: what signals and a dead process do to them."""

import os
import signal
import time
from pathlib import Path

import pytest
from refusals import refused

from disa.data.parallel import process_pool
from disa.running.interruption import SIGNALS

WORKERS = 3


def arrive(folder: Path) -> bool:
    """Wait for all workers, so that each has one task; tell whether it outlives all signals."""
    (folder / str(os.getpid())).touch()
    until = time.monotonic() + 60
    while len(list(folder.iterdir())) < WORKERS and time.monotonic() < until:
        time.sleep(0.01)
    for number in SIGNALS:
        os.kill(os.getpid(), number)
    return True


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals end processes there")
def test_every_process_leaves_signals_to_its_parent(tmp_path: Path):
    before = signal.getsignal(signal.SIGINT)
    with process_pool(WORKERS, "") as pool:
        assert list(pool.map(arrive, [tmp_path] * WORKERS)) == [True] * WORKERS
    assert len(list(tmp_path.iterdir())) == WORKERS
    assert signal.getsignal(signal.SIGINT) == before


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_process_that_dies_is_one_error_with_the_remedy_and_ends_the_others():
    remedy = "buy some memory"
    with refused(remedy), process_pool(2, remedy) as pool:
        pool.submit(time.sleep, 600)
        # Python watches a process of a pool from the first answer on that comes after its start.
        pool.submit(int).result()
        pool.submit(die).result()
