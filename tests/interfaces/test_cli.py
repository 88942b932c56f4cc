import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import disa
from disa.errors import DisaError
from disa.interfaces.training_cli import training
from disa.interfaces.typer_cli import app

REGISTERED = (*app.registered_commands, *training.registered_commands)
COMMANDS = tuple(command.name or command.callback.__name__ for command in REGISTERED)
runner = CliRunner()


@pytest.mark.slow
def test_help_needs_no_heavy_import():
    program = (
        "import sys; import disa; from disa.interfaces.typer_cli import app\n"
        "try: app(['segment', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'transformers', 'numpy', 'tokenizers'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "Examples" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_python_dash_m_and_version():
    done = subprocess.run(
        [sys.executable, "-m", "disa", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"disa {disa.__version__}\n"


def test_help_lists_every_command():
    result = runner.invoke(app, ["--help"])
    assert result.exit_code == 0
    for command in COMMANDS:
        assert command in result.output


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_for_every_option(command: str):
    result = runner.invoke(app, [command, "--help"], terminal_width=200, env={"COLUMNS": "200"})
    assert result.exit_code == 0
    (parsed,) = [c for c in REGISTERED if (c.name or c.callback.__name__) == command]
    for name, hint in parsed.callback.__annotations__.items():
        if name != "return":
            assert hint.__metadata__[0].help, f"{command}: {name} has no help"


@pytest.mark.parametrize(
    "arguments",
    [["nothing"], ["segment"], ["segment", "--colour"], ["info", "mini", "--labels", "0"]],
)
def test_wrong_usage_exits_with_2(arguments: list[str]):
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_an_error_is_one_line_on_stderr_and_exit_code_2(monkeypatch: pytest.MonkeyPatch):
    def fail() -> None:
        raise DisaError("a.png: two\nlines")

    monkeypatch.setattr("disa.interfaces.models_command.run", fail)
    result = runner.invoke(app, ["models"])
    assert (result.exit_code, result.stderr, result.stdout) == (2, "error: a.png: two lines\n", "")


def test_an_interruption_says_what_is_kept_and_exits_with_130(monkeypatch: pytest.MonkeyPatch):
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("disa.interfaces.models_command.run", interrupt)
    result = runner.invoke(app, ["models"])
    assert result.exit_code == 130
    assert "whole and kept" in result.stderr


@pytest.mark.parametrize(
    "ask", [lambda: torch.empty(2**60, dtype=torch.uint8), lambda: np.empty(2**60, np.uint8)]
)
def test_memory_that_runs_out_is_one_line(
    ask: Callable[[], object], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("disa.interfaces.models_command.run", ask)
    result = runner.invoke(app, ["models"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: out of memory; ")


def test_a_mistake_of_the_program_stays_visible(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("disa.interfaces.models_command.run", lambda: 1 / 0)
    assert isinstance(runner.invoke(app, ["models"]).exception, ZeroDivisionError)


def test_the_public_names_are_there_and_no_others():
    for name in disa.__all__:
        assert getattr(disa, name).__name__ == name
    assert set(disa.__all__) <= set(dir(disa))
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        disa.Nothing  # noqa: B018
