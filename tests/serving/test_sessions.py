"""Pictures are dropped after a time and by size, the longest unused first."""

from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from disa.errors import DisaError
from disa.inference.segmenter import Session
from disa.serving.limits import Limits
from disa.serving.problems import Problem
from disa.serving.sessions import Kept, Sessions


def kept(megabytes: int) -> Kept:
    return Kept(Mock(spec=Session, nbytes=megabytes * 1_000_000))


def test_a_picture_goes_when_nobody_has_asked_it_for_long():
    now = 0.0
    sessions = Sessions(Limits(session_seconds=10), lambda: now)
    first, second = kept(1), kept(1)
    sessions.add(first)
    sessions.add(second)
    now = 9
    assert sessions.get(first.id) is first
    now = 12
    assert sessions.get(first.id) is first
    with pytest.raises(Problem, match="upload"):
        sessions.get(second.id)
    assert sessions.dropped == {"age": 1, "room": 0}
    now = 30
    sessions.drop_old()
    assert (len(sessions), sessions.nbytes) == (0, 0)


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 3)), max_size=30))
def test_the_limits_hold_and_the_last_used_stay(steps: list[tuple[int, int]]):
    limits = Limits(max_sessions=4, session_megabytes=10)
    sessions = Sessions(limits, lambda: 0.0)
    order: list[Kept] = []  # that are there, the longest unused first
    for size, used in steps:
        order = [each for each in order if each.id in sessions._kept]
        if used < len(order):
            order.append(order.pop(used))
            sessions.get(order[-1].id)
        new = kept(size)
        if size > 10:
            with pytest.raises(Problem, match="shrink"):
                sessions.add(new)
            continue
        sessions.add(new)
        order.append(new)
        assert len(sessions) <= 4
        assert sessions.nbytes == sum(each.opened.nbytes for each in sessions._kept.values())
        assert sessions.nbytes <= 10_000_000
        # No more went than had to, and those were the longest unused.
        there = [each.id in sessions._kept for each in order]
        assert there == sorted(there)
        assert there[-1]
    for each in list(sessions._kept.values()):
        sessions.remove(each.id)
    assert sessions.nbytes == 0


def test_ids_cannot_be_guessed():
    names = {kept(1).id for _ in range(100)}
    assert len(names) == 100
    assert min(map(len, names)) >= 22


def test_limits_that_let_nothing_through():
    with pytest.raises(DisaError, match="--max-labels 0"):
        Limits(max_labels=0)
