"""Many labels, a few at a time (decision D107).

Most of the head sees each label alone, and the attention between labels each position alone. In
inference they are therefore computed in parts: the numbers are the same, the intermediates stay in
the processor's cache, and memory does not grow with them.
"""

from collections.abc import Callable

import torch
from torch import Tensor

CACHE = 8_000_000  # bytes of the widest intermediate of a part, on a CPU
MEMORY = 500_000_000  # the same on other devices, which gain nothing by small parts


def a_few_at_a_time(function: Callable[..., Tensor], *values: Tensor, widest: int) -> Tensor:
    """Return `function(*values)`, a few rows of axis 1 at a time.

    `values` share their first two axes with the result. `widest` is how many numbers the function
    holds per row at once. With gradients everything is computed together.
    """
    rows = values[0].shape[1]
    step = rows_that_fit(values[0], values[0].shape[0] * widest)
    if step is None or rows <= step:
        return function(*values)

    first = function(*(value[:, :step] for value in values))
    if first.shape[2:] == values[0].shape[2:] and len(first) == len(values[0]):
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
    budget = CACHE if like.device.type == "cpu" else MEMORY
    return max(1, budget // (numbers * like.element_size()))
