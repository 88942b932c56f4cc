"""A real server, started by the command line."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path
from typing import NamedTuple

from asking import until


class Reply(NamedTuple):
    """What a server answered."""

    status: int
    headers: Message
    content: bytes


class ServerProcess:
    """`disa serve` with these options at a free port."""

    def __init__(self, folder: Path, *options: str, **environment: str) -> None:
        self.out = folder / "stdout"
        self.log = folder / "stderr"
        with self.out.open("wb") as out, self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "disa", "serve", "--port", "0", *options],
                stdout=out,
                stderr=log,
                env=os.environ | environment,
            )
        until(lambda: b"served at" in self.out.read_bytes() or self.process.poll() is not None, 600)
        assert self.process.poll() is None, self.log.read_text()
        self.address = self.out.read_text().split("served at ")[1].split()[0]

    def ask(self, path: str, content: bytes | None = None, **headers: str) -> Reply:
        request = urllib.request.Request(self.address + path, content, headers)
        try:
            with urllib.request.urlopen(request, timeout=300) as response:
                return Reply(response.status, response.headers, response.read())
        except urllib.error.HTTPError as error:
            return Reply(error.code, error.headers, error.read())

    def stop(self, number: int = signal.SIGINT) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(300)

    def lines(self) -> list[dict[str, object]]:
        """Return the log."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]
