import multiprocessing

import pytest
import torch

import disa.running.devices  # noqa: F401 (it prepares for forks)

SECONDS = 60  # until a child that waits for ever is given up


def computed(answers: "multiprocessing.Queue[tuple[int, float]]") -> None:
    ones = torch.ones(512, 512)
    answers.put((torch.get_num_threads(), float((ones @ ones).exp().log1p().sum())))


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork"
)
def test_a_process_forked_after_a_computation_on_threads_computes():
    before = torch.get_num_threads()
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    torch.set_num_threads(2)
    try:
        here = context.SimpleQueue()
        computed(here)
        threads, expected = here.get()
        child = context.Process(target=computed, args=(answers,))
        child.start()
        found = answers.get(timeout=SECONDS)
    finally:
        torch.set_num_threads(before)
    child.join()
    assert threads == 2
    assert found == (1, expected)
