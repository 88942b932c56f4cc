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
    budget = CACHE if values[0].device.type == "cpu" else MEMORY
    row_bytes = len(values[0]) * widest * values[0].element_size()
    step = max(1, budget // row_bytes)
    if rows <= step or torch.is_grad_enabled():
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
