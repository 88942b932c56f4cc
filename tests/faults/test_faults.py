"""Kills, signals, full disks and company: the long commands go on, and end as undisturbed ones.

`pytest tests/faults --kills 200` kills each command so often, and prints what it counted.
"""

import os
import random
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands import CHECKPOINT_EVERY, Command, build_voc, draw_pictures, long_commands
from small_run import save_clip

from disa.training.run_folder import checkpoints

if sys.platform == "win32":
    pytest.skip("no such signals there", allow_module_level=True)

from children import NONE, PATIENCE, Ended, Fault, Started, run

pytestmark = pytest.mark.slow
NAMES = ("train", "pretrain-clip", "evaluate", "prepare", "segment")
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Undisturbed:
    """A command that was left alone: what it wrote, and how many events it had."""

    def __init__(self, command: Command, folder: Path) -> None:
        self.command = command
        command.prepare(folder)
        ended = run(command.arguments(folder), folder)
        assert ended.code == 0, ended.said
        self.events = ended.events
        self.results = command.results(folder)

    def check(self, folder: Path) -> None:
        """Compare results with those of the undisturbed command; nothing else may be there."""
        found = self.command.results(folder)
        assert found.keys() == self.results.keys()
        assert list(folder.rglob(".disa-*")) == []
        assert [name for name in found if found[name] != self.results[name]] == []

    def run(self, folder: Path, fault: Fault = NONE) -> Ended:
        return run(self.command.arguments(folder), folder, fault)


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> dict[str, Command]:
    from on_disk import save_folder

    folder = tmp_path_factory.mktemp("made")
    data = save_folder(folder / "data", images=6)
    made = long_commands(
        save_clip(folder / "clip"),
        model_folder,
        data,
        build_voc(folder / "voc"),
        draw_pictures(folder / "pictures"),
    )
    return {command.name: command for command in made}


@pytest.fixture(scope="module", params=NAMES)
def undisturbed(
    request: pytest.FixtureRequest,
    commands: dict[str, Command],
    tmp_path_factory: pytest.TempPathFactory,
) -> Undisturbed:
    return Undisturbed(commands[request.param], tmp_path_factory.mktemp("undisturbed"))


def test_killed_at_any_moment_it_goes_on(
    undisturbed: Undisturbed, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    draw = random.Random(0)
    command = undisturbed.command
    kills = request.config.getoption("--kills")
    done = rounds = worst = 0
    while done < kills:
        rounds += 1
        folder = tmp_path / str(rounds)
        command.prepare(folder)
        is_over = False
        kept: dict[str, bytes] = {}
        while not is_over:
            # In the end it is left alone.
            event = draw.randint(1, undisturbed.events) if done < kills else 0
            ended = undisturbed.run(folder, Fault(signal.SIGKILL, event))
            is_over = ended.code == 0
            assert is_over or ended.code == -signal.SIGKILL, ended.said
            done += not is_over
            if command.is_training and not is_over:
                lost = command.lost_steps(folder)
                worst = max(worst, lost)
                assert lost <= CHECKPOINT_EVERY
            elif not command.is_training:
                found = command.results(folder)
                assert kept.items() <= found.items(), "what was written is written again"
                kept = found
        undisturbed.check(folder)
    print(f"\n{command.name}: {done} kills in {rounds} rounds, at most {worst} steps lost")


def test_a_signal_is_answered_and_loses_nothing(undisturbed: Undisturbed, tmp_path: Path) -> None:
    command = undisturbed.command
    command.prepare(tmp_path)
    number = STOPPING[NAMES.index(command.name) % len(STOPPING)]
    ended = undisturbed.run(tmp_path, Fault(number, undisturbed.events // 3, to_group=True))
    assert ended.code == 130, ended.said
    assert "Traceback" not in ended.said
    assert ("stopped" if command.is_training else "interrupted") in ended.said
    if command.is_training:
        assert command.lost_steps(tmp_path) == 0
    assert undisturbed.run(tmp_path).code == 0
    undisturbed.check(tmp_path)


def test_a_full_disk_is_one_line_and_more_space_is_all_it_takes(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    undisturbed.command.prepare(tmp_path)
    sizes = sorted({len(content) for content in undisturbed.results.values()})
    ended = undisturbed.run(tmp_path, Fault(largest_file=sizes[len(sizes) // 2] - 1))
    assert ended.code == 2, ended.said
    assert "Traceback" not in ended.said
    assert ended.said.count("error: ") == 1
    assert list(tmp_path.rglob(".disa-*")) == []
    assert undisturbed.run(tmp_path).code == 0
    undisturbed.check(tmp_path)


def test_two_at_once_leave_what_one_does(undisturbed: Undisturbed, tmp_path: Path) -> None:
    undisturbed.command.prepare(tmp_path)
    arguments = undisturbed.command.arguments(tmp_path)
    both = [Started(arguments, tmp_path, NONE) for _ in range(2)]
    codes = sorted(started.wait().code or 0 for started in both)
    assert codes in ([0, 0], [0, 2])
    assert codes == [0, 0] or undisturbed.command.is_training
    undisturbed.check(tmp_path)


def test_a_closed_terminal_saves_and_leaves(commands: dict[str, Command], tmp_path: Path) -> None:
    """Nothing can be written to a terminal that is gone."""
    command = commands["train"]
    controller, terminal = os.openpty()
    fault = Fault(terminal=os.ttyname(terminal))
    started = Started(command.arguments(tmp_path), tmp_path, fault)
    while not checkpoints(tmp_path / "checkpoints"):
        assert started.process.exitcode is None
        # Where nobody reads, a process waits at some time.
        if select.select([controller], [], [], 0.05)[0]:
            os.read(controller, 4096)
    os.close(controller)
    os.close(terminal)
    assert started.wait().code == 130
    assert command.lost_steps(tmp_path) == 0


IMPORTING = """
import signal, sys
name, number = sys.argv.pop(1), int(sys.argv.pop(1))
def heard(event, arguments):
    if event == "import" and arguments[0] == name:
        signal.raise_signal(number)
from disa.__main__ import main
sys.addaudithook(heard)
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("name", "number"),
    [("tyro", signal.SIGINT), ("transformers", signal.SIGHUP)],
)
def test_a_signal_at_start_up_is_answered_without_a_traceback(
    name: str, number: signal.Signals, tmp_path: Path, model_folder: Path
) -> None:
    pictures = draw_pictures(tmp_path / "pictures", 1)
    words = ["segment", pictures, "--labels", "sea", "--model", model_folder]
    done = subprocess.run(
        [sys.executable, "-c", IMPORTING, name, str(int(number)), *words, "-o", tmp_path / "out"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr


def test_planted_links_are_refused_and_not_followed(
    commands: dict[str, Command], tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    for place in (".lock", "log.jsonl"):
        out = tmp_path / place / "out"
        out.mkdir(parents=True)
        (out / place).symlink_to(victim)
        ended = run(commands["train"].arguments(out), out)
        assert ended.code == 2
        assert ended.said.count("\n") == 1
        assert str(out / place) in ended.said
        assert not victim.exists()
