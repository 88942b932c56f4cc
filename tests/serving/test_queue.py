"""Work is done in order and together where it fits; nobody's failure is another's."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from disa.inference.passes import BATCH
from disa.serving.problems import Problem
from disa.serving.queue import Places, Worker


def doing(jobs: Sequence[tuple[str, int]], fails: Sequence[int] = ()) -> tuple[list, list]:
    """Do jobs (key, item) that all wait when the first begins; return batches and results."""
    batches: list[list[int]] = []
    gate = threading.Event()

    def work(items: Sequence[int]) -> list[int]:
        gate.wait(10)
        batches.append(list(items))
        if set(items) & set(fails):
            raise ValueError(f"no {items}")
        return [10 * item for item in items]

    async def run() -> list[object]:
        worker = Worker(lambda size: None)
        asked = [asyncio.ensure_future(worker.do(work, key, item)) for key, item in jobs]
        await asyncio.sleep(0)
        gate.set()
        results = await asyncio.gather(*asked, return_exceptions=True)
        worker.close()
        return results

    return batches, asyncio.run(run())


def test_jobs_of_one_key_are_done_together():
    jobs = [("a", 0), ("a", 1), ("b", 2), ("a", 3), ("b", 4)]
    batches, results = doing(jobs)
    assert results == [0, 10, 20, 30, 40]
    # The first may have begun alone.
    assert batches in ([[0], [1, 3], [2, 4]], [[0, 1, 3], [2, 4]], [[0, 1], [2, 4], [3]])


def test_a_batch_has_an_end():
    batches, results = doing([("a", number) for number in range(30)])
    assert max(map(len, batches)) == BATCH
    assert results == [10 * number for number in range(30)]


def test_one_that_fails_spoils_no_other():
    _, results = doing([("a", number) for number in range(6)], fails=[3])
    assert [isinstance(result, ValueError) for result in results] == [False] * 3 + [True] + [
        False
    ] * 2
    assert results[4] == 40


def test_a_job_that_nobody_waits_for_is_left_out():
    done = []
    gate = threading.Event()

    def work(items: Sequence[int]) -> Sequence[int]:
        gate.wait(10)
        done.extend(items)
        return items

    async def run() -> None:
        worker = Worker(lambda size: None)
        first = asyncio.ensure_future(worker.do(work, "a", 1))
        await asyncio.sleep(0.05)
        second = asyncio.ensure_future(worker.do(work, "b", 2))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.sleep(0)
        gate.set()
        assert await first == 1
        worker.close()

    asyncio.run(run())
    assert done == [1]


def test_places_are_bounded_and_come_back():
    places = Places(2)
    with places.place(), places.place():
        with pytest.raises(Problem) as raised, places.place():
            pass
        assert raised.value.status_code == 429
        assert int(raised.value.headers["Retry-After"]) >= 1
    with pytest.raises(ZeroDivisionError), places.place():
        raise ZeroDivisionError
    assert places.taken == 0
