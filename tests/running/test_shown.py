"""Texts that a terminal, Markdown or HTML would obey."""

import json

import pytest
from command_line import invoke
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from disa.evaluation.tables import markdown_table
from disa.running.shown import as_markdown, printable
from disa.running.terminal import counted, say, warn

EVIL = "\x1b[31m<script>alert(1)</script>|\n# title\u202e\x9b"


@given(st.text(st.characters(codec=None)))
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    shown = printable(text)
    assert not set(shown) & {chr(code) for code in (*range(32), *range(127, 160))}
    assert not set(shown) & set("\u202a\u202b\u202d\u202e\u2066\u2067\u2068\u2028\u2029\ufeff")
    shown.encode()
    assert printable(shown) == shown


@given(st.text())
def test_json_stays_what_it_was(text: str) -> None:
    for ascii_only in (True, False):
        assert json.loads(printable(json.dumps(text, ensure_ascii=ascii_only))) == text


def test_letters_of_all_scripts_stay() -> None:
    text = "naïve 猫 кот \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 👩\u200d👧\u3000x"
    assert printable(text) == text


def test_markdown_shows_html_and_links_as_they_are() -> None:
    shown = as_markdown("<b> &lt; [a](b) `c` | \\")
    assert shown == r"\<b\> \&lt; \[a\](b) \`c\` \| " + "\\\\"
    rows = markdown_table(("a",), [(EVIL,)]).splitlines()
    assert len(rows) == 3
    assert "<script" not in rows[2].replace(r"\<", "")


def test_lines_bars_and_tables_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(EVIL, title=EVIL)
    table.add_row(EVIL)
    say(EVIL, table)
    warn(EVIL)
    with counted(EVIL) as report:
        report(1, 2, EVIL)
    out, err = capsys.readouterr()
    for printed in (out, err):
        assert not set(printed) & set("\x1b\x9b\u202e")
        assert "<script>" in printed


def test_what_a_command_says_of_a_file(tmp_path) -> None:
    missing = invoke("segment", f"{tmp_path}/\x1b[2Ja\nb.png", "-l", "sea", "-o", tmp_path / "out")
    assert missing.exit_code == 2
    assert "\x1b" not in missing.output
