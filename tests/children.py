"""Commands in processes of their own that start at once, and end at a chosen moment.

They are forks of a process that has imported everything. A moment is an event on the disk: the
n-th time that the process opens a file in its folder, renames, removes or makes something.
"""

import multiprocessing
import os
import resource
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "children",
        "small_run",
        "disa.data.prepared",
        "disa.evaluation.evaluate",
        "disa.inference.folder",
        "disa.interfaces.segment_notes",
        "disa.pretraining.clip_training",
        "disa.training.loop",
    ]
)
EVENTS = ("os.rename", "os.remove", "os.rmdir", "os.mkdir")
PATIENCE = 300  # seconds for a command, after which something hangs


@dataclass(frozen=True)
class Fault:
    """What happens to a command: a signal at the n-th event, a small disk, a terminal."""

    number: int = 0  # of a signal; 0: none
    event: int = 0
    to_group: bool = False  # to all processes of a terminal, not to the command alone
    largest_file: int | None = None  # bytes
    terminal: str | None = None  # where it speaks, and whose closing it hears


NONE = Fault()


class Ended(NamedTuple):
    """How a command ended: the exit code (negative: the signal), what it said, and its events."""

    code: int | None
    said: str
    events: int


class Started:
    """A command at work."""

    def __init__(
        self,
        command: Sequence[object],
        folder: Path,
        fault: Fault = NONE,
        environment: Mapping[str, str] = {},
    ) -> None:
        words = [str(word) for word in command]
        self.said, theirs = CONTEXT.Pipe(duplex=False)
        given = (words, str(folder), fault, environment, theirs)
        self.process = CONTEXT.Process(target=_run, args=given)
        self.process.start()
        theirs.close()

    def wait(self) -> Ended:
        """Wait until it has ended."""
        self.process.join(PATIENCE)
        if self.process.exitcode is None:
            self.process.kill()
            raise TimeoutError(f"it hangs; it said: {self._read()}")
        said, _, events = self._read().partition("\nevents ")
        return Ended(self.process.exitcode, said, int(events or 0))

    def _read(self) -> str:
        parts = []
        while part := os.read(self.said.fileno(), 65536):
            parts.append(part)
        return b"".join(parts).decode()


def run(command: Sequence[object], folder: Path, fault: Fault = NONE) -> Ended:
    """Run `disa COMMAND`, whose results go to `folder`, and wait for its end."""
    return Started(command, folder, fault).wait()


def run_together(command: Sequence[object], folder: Path, count: int = 2) -> list[Ended]:
    """Run it in several processes that share the work, as torchrun starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    started = []
    for rank in map(str, range(count)):
        own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": str(count)}
        started.append(Started(command, folder, environment=place | own))
    return [each.wait() for each in started]


def _run(
    words: list[str], folder: str, fault: Fault, environment: Mapping[str, str], said: Connection
) -> None:
    import torch
    from small_run import small_config

    from disa.interfaces import cli, train_command

    os.environ.update(environment)
    torch.set_num_threads(1)
    os.setsid()
    # The first terminal that the leader of a session opens is its own.
    speaks = said.fileno() if fault.terminal is None else os.open(fault.terminal, os.O_RDWR)
    os.dup2(speaks, 1)
    os.dup2(speaks, 2)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    train_command.RECIPES = {"mini": small_config}
    sys.argv = ["disa", *words]
    count = 0

    def heard(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        if event == "open":
            if not str(arguments[0]).startswith(folder):
                return
        elif event not in EVENTS:
            return
        count += 1
        if count == fault.event:
            send = os.killpg if fault.to_group else os.kill
            send(os.getpid(), fault.number)

    sys.addaudithook(heard)
    if fault.largest_file is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault.largest_file, hard))
    code = cli.main(words)
    sys.stdout.flush()
    os.write(said.fileno(), f"\nevents {count}".encode())
    sys.exit(code)
