"""The script of `disa completion`, asked by the shell that it is for."""

import subprocess
from pathlib import Path

import pytest
from command_line import invoke

pytestmark = pytest.mark.slow

# What bash does at a press of the tabulator.
PRESS = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
$(complete -p disa | sed 's/.*-F \\([^ ]*\\).*/\\1/')
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    done = invoke("completion", "bash")
    assert done.exit_code == 0
    path = tmp_path_factory.mktemp("completion") / "disa.bash"
    path.write_text(done.stdout)
    return path


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        (["da"], {"data"}),
        (["data", "ch"], {"check"}),
        (["segment", "--form"], {"--format"}),
        (["train", "--precision", ""], {"fp32", "bf16", "fp16"}),
    ],
)
def test_bash_completes(script: Path, typed: list[str], completed: set[str]):
    command = ["bash", "-c", PRESS, "bash", str(script), "disa", *typed]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == completed


def test_zsh_has_a_script_of_its_own():
    assert invoke("completion", "zsh").stdout.startswith("#compdef disa")
