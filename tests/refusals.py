"""Errors are tested for their facts, such as the file, the value and the fix, not for sentences."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from disa.errors import DisaError


@contextmanager
def refused(*facts: object) -> Iterator[pytest.ExceptionInfo[DisaError]]:
    """Expect a `DisaError` of one line that holds all of these."""
    with pytest.raises(DisaError) as raised:
        yield raised
    message = str(raised.value)
    assert "\n" not in message
    for fact in facts:
        assert str(fact) in message, f'"{fact}" is not in: {message}'
