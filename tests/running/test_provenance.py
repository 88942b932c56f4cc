"""What is noted beside a number: which program made it."""

import sys

import pytest

from disa.running.provenance import code_and_machine


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("/usr/bin/disa", ["disa"]),
        ("/lib/disa/__main__.py", ["disa"]),
        ("benchmarks/many_labels.py", ["python", "benchmarks/many_labels.py"]),
    ],
)
def test_the_command_can_be_typed_again(
    program: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [program, "--labels", "3"])
    assert code_and_machine()["command"] == [*expected, "--labels", "3"]
