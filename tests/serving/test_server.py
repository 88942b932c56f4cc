"""The command as a process: it answers, logs, and ends when it should."""

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from asking import png, until
from command_line import invoke
from server_process import ServerProcess


@pytest.mark.slow
def test_sigterm_ends_the_server_after_the_requests_under_way(tmp_path: Path, model_folder: Path):
    server = ServerProcess(tmp_path, "--model", str(model_folder), "--queue", "3")
    assert server.address.startswith("http://127.0.0.1:")
    assert json.loads(server.ask("/ready").content) == {"status": "ready"}
    assert str(model_folder.parent) not in server.ask("/model").content.decode()
    assert server.ask("/%1b%5b2J%7f%0ahello").status == 404
    opened = json.loads(server.ask("/sessions?name=large.png", png(2000, 2000)).content)

    body = json.dumps({"labels": [f"label {number}" for number in range(20)]}).encode()
    path = f"/sessions/{opened['id']}/segment?format=overlay"
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(server.ask, path, body, **{"Content-Type": "application/json"})
        until(lambda: b"disa_requests_taken 1.0" in server.ask("/metrics").content)
        assert server.stop(signal.SIGTERM) == 0
        assert asked.result().status == 200
        assert asked.result().content.startswith(b"\x89PNG")

    log = server.log.read_bytes()
    assert all(32 <= byte < 127 or byte == 10 for byte in log)
    requests = [line for line in server.lines() if line["event"] == "request"]
    assert {line["status"] for line in requests} == {200, 201, 404}
    assert opened["id"].encode() not in log
    assert b"label 3" not in log


@pytest.mark.slow
def test_a_server_with_a_token_and_sighup(tmp_path: Path, model_folder: Path):
    token = "only-for-this-test"
    options = ("--model", str(model_folder), "--host", "0.0.0.0")
    server = ServerProcess(tmp_path, *options, DISA_TOKEN=token)
    assert server.ask("/").status == 401
    assert server.ask("/", Authorization=f"Bearer {token}x").status == 401
    page = server.ask("/", Authorization=f"Bearer {token}", Host="disa.example.org")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert server.stop(signal.SIGHUP) == 0
    assert token.encode() not in server.log.read_bytes()


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        (["--host", "0.0.0.0"], ["0.0.0.0", "DISA_TOKEN"]),
        (["--host", "::"], ["DISA_TOKEN"]),
        (["--token", "short"], ["16"]),
        (["--max-labels", "0"], ["--max-labels 0"]),
        (["--port", "99999"], ["99999"]),
        (["--host", "192.0.2.1", "--token", "x" * 16], ["192.0.2.1", "--host"]),
        (["--protocol", "half"], ["half", "windows"]),
        (["--protocol", "windows", "--size", "8", "--port", "0"], ["size 8"]),
    ],
)
def test_what_cannot_be_served(
    options: list[str], facts: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("DISA_TOKEN", raising=False)
    invoke("serve", *options).fails(*facts)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("disa.running.extras.find_spec", lambda name: None)
    invoke("serve").fails("fastapi", "disa-seg[serve]")
