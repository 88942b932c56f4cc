"""Many labels, a few at a time (decision D107).

Most of the head sees each label alone, and the attention between labels each position alone. In
inference they are therefore computed in parts: the numbers are the same, the intermediates stay in
the processor's cache, and memory does not grow with them. How large the parts are follows a budget,
which is the caller's choice (decision D144).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

CACHE = 4_000_000  # bytes of the widest intermediate of a part, on a CPU: two such fit its cache
MAX_MEMORY = 8_000_000_000  # bytes above the loaded model, where nobody says less
WIDEST = 16  # a part's widest intermediate takes one in so many bytes of the budget

_budget: ContextVar[int] = ContextVar("max_memory", default=MAX_MEMORY)


@contextmanager
def at_most(memory: int) -> Iterator[None]:
    """Let everything that is computed inside follow a budget of so many bytes."""
    before = _budget.set(memory)
    try:
        yield
    finally:
        _budget.reset(before)


def share(parts: int) -> int:
    """Return one of so many equal parts of the budget, in bytes."""
    return _budget.get() // parts


def a_few_at_a_time(
    function: Callable[..., Tensor], *values: Tensor, widest: int, overwrite: bool = False
) -> Tensor:
    """Return `function(*values)`, a few rows of axis 1 at a time.

    `values` share their first two axes with the result. `widest` is how many numbers the function
    holds per row at once. With `overwrite` the parts take the place of the first value, which has
    their shape and is not needed again. With gradients everything is computed together.
    """
    rows = values[0].shape[1]
    step = rows_that_fit(values[0], values[0].shape[0] * widest)
    if step is None or rows <= step:
        return function(*values)

    first = function(*(value[:, :step] for value in values))
    if overwrite:
        whole = values[0]
    elif first.shape[2:] == values[0].shape[2:] and len(first) == len(values[0]):
        # Laid out in memory as the values are, so that a transposed view is no copy.
        whole = torch.empty_like(values[0], dtype=first.dtype)
    else:
        whole = first.new_empty(first.shape[0], rows, *first.shape[2:])
    whole[:, :step] = first
    for start in range(step, rows, step):
        part = slice(start, start + step)
        whole[:, part] = function(*(value[:, part] for value in values))
    return whole


def rows_that_fit(like: Tensor, numbers: int) -> int | None:
    """Return how many rows of so many numbers fit, of the type and on the device of `like`.

    None if all go together: with gradients, and while the network is compiled or exported, since
    the number of labels shall then stay free.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return None
    # Other devices gain nothing by parts that fit a cache.
    most = share(WIDEST)
    if like.device.type == "cpu":
        most = min(most, CACHE)
    return max(1, most // (numbers * like.element_size()))


def scaled(x: Tensor, factor: Tensor, overwrite: bool) -> Tensor:
    """Return `x * factor`; with `overwrite` and without gradients in the place of `x`."""
    if not overwrite or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return x * factor
    return x.mul_(factor)
