"""Progress where there is no terminal: now and then a line."""

import pytest

from disa.running import terminal


def test_progress_in_a_file_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now)
    with terminal.counted("segmenting") as report, terminal.counted("hidden", False) as silent:
        for done in range(100):
            now += 1
            report(done, 100, f"p{done}.png")
            silent(done, 100)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        f"segmenting: {done} of 100 p{done}.png  left {left}"
        for done, left in ((29, "0:01:11"), (59, "0:00:41"), (89, "0:00:11"))
    ]
