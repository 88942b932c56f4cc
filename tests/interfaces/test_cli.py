"""What every command promises: quick help for every option, one line for a mistake, exit codes."""

import re
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import invoke
from PIL import Image

import disa
from disa.errors import DisaError
from disa.interfaces.cli import COMMANDS
from disa.interfaces.models_command import Models
from disa.running.records import options

HEAVY = ("torch", "transformers", "numpy", "tokenizers", "PIL")


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--help"], ["segment", "--help"], ["train", "--help"]])
def test_help_needs_no_heavy_import(arguments: list[str]):
    program = (
        "import sys\nfrom disa.interfaces.cli import main\n"
        f"try: main({arguments!r})\nexcept SystemExit: pass\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_python_dash_m_and_version():
    done = subprocess.run(
        [sys.executable, "-m", "disa", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"disa {disa.__version__}\n"


def test_help_lists_every_command():
    result = invoke("--help")
    assert result.exit_code == 0
    for command in COMMANDS:
        assert command in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_for_every_option(command: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "100")  # one column; boxes are of ASCII where no terminal is
    result = invoke(*command.split(), "--help")
    assert result.exit_code == 0
    module, _, name = COMMANDS[command].partition(":")
    for option in options(getattr(import_module(module), name)):
        flag = option.replace("_", "-")  # --no-FLAG, where the default is true
        assert f"-{flag}" in result.stdout or option.upper() in result.stdout.upper(), option
    # An option without a comment has nothing between its name and its default.
    assert not re.search(r"\n  --\S+( \S+)?\s+\(default", result.stdout)
    assert "<bool>" not in result.stdout
    # "--no-flip  Mirror every other image" would say that the flag does what it switches off.
    switches = re.findall(r"\n  --no-\S+\s+(\S+)", result.stdout)
    assert set(switches) <= {"Whether"}
    # A section without a comment of its own would be given that of the option before it.
    sections = re.findall(r"\n  (\S.*\S) +\n  -{20}", result.stdout)
    unwrapped = " ".join(result.stdout.split())
    assert [text for text in sections if unwrapped.count(text) > 1] == []
    if command == "segment":
        assert len(switches) == 2
        assert len(sections) == 3


@pytest.mark.parametrize(
    "arguments",
    [["nothing"], ["segment"], ["segment", "--colour"], ["info", "mini", "--labels", "0"]],
)
def test_wrong_usage_exits_with_2(arguments: list[str]):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_an_error_is_one_line_on_stderr_and_exit_code_2(monkeypatch: pytest.MonkeyPatch):
    def fail(self: Models) -> int:
        raise DisaError("a.png: two\nlines")

    monkeypatch.setattr(Models, "run", fail)
    assert invoke("models") == (2, "", "error: a.png: two lines\n")


def test_an_interruption_exits_with_130(monkeypatch: pytest.MonkeyPatch):
    def interrupt(self: Models) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(Models, "run", interrupt)
    assert invoke("models").exit_code == 130


@pytest.mark.parametrize(
    "ask", [lambda: torch.empty(2**60, dtype=torch.uint8), lambda: np.empty(2**60, np.uint8)]
)
def test_memory_that_runs_out_is_one_line(
    ask: Callable[[], object], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Models, "run", lambda self: ask())
    result = invoke("models")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: out of memory; ")


def test_a_mistake_of_the_program_stays_visible(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Models, "run", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        invoke("models")


def test_the_public_names_are_there_and_no_others():
    for name in disa.__all__:
        assert getattr(disa, name).__name__ == name
    assert set(disa.__all__) <= set(dir(disa))
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        disa.Nothing  # noqa: B018


@pytest.mark.parametrize(
    "line",
    [
        "segment ok.png -l sea -o NAME",
        "segment ok.png -l sea -o out -m NAME",
        "segment --config NAME",
        "data check folder NAME",
        "data import NAME out",
        "data prepare pc59 NAME",
        "convert cat-seg NAME out",
        "convert cat-seg ok.png NAME",
        "info NAME",
        "vocabulary NAME.json",
        "train mini --clip random --out NAME",
    ],
)
def test_names_that_are_too_long_for_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("ok.png")
    name = "a" * 300
    invoke(*line.replace("NAME", name).split()).fails(name)
