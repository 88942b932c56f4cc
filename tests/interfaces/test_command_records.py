"""Every command is a record: options, `--set`, `--config FILE` and Python give the same one."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from command_line import invoke
from refusals import refused
from tyro.conf import OmitArgPrefixes, Positional, UseAppendAction

from disa.interfaces import cli
from disa.running.records import read_config, save_config


@dataclass(frozen=True)
class Views:
    """How a picture is shown."""

    overlap: float = 0.5  # Share of a window that the next one shows, too.
    size: int | None = None  # Pixels of the short side.
    templates: UseAppendAction[tuple[str, ...]] = ()  # Sentences around a label.


@dataclass(frozen=True, kw_only=True)
class Toy:
    """Do next to nothing.

    Example: `disa toy a.png --out results`
    """

    images: Positional[tuple[str, ...]]  # Pictures.
    out: Path  # Folder for the results.
    views: OmitArgPrefixes[Views] = field(default_factory=Views)
    flip: bool = True  # Mirror.
    saliency: bool = False  # Write heat maps.
    precision: Literal["fp32", "bf16"] = "fp32"  # Of the numbers.
    set: UseAppendAction[tuple[str, ...]] = ()  # NAME=VALUE for anything else.
    config: Path | None = None  # Read options from this file.

    def run(self) -> int:
        """Remember what was asked for."""
        RUNS.append(self)
        return 0


RUNS: list[Toy] = []
RECORD = Toy(
    images=("a.png", "b c.png"),
    out=Path("results"),
    views=Views(0.25, 64, ("a {}", "the {}, again")),
    flip=False,
    saliency=True,
    precision="bf16",
    set=("cost_channels=8",),
)


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    RUNS.clear()
    monkeypatch.setitem(cli.COMMANDS, "toy", f"{__name__}:Toy")


def test_options_give_the_record():
    words = ["--out", "results", "--overlap", "0.25", "--size", "64", "--precision", "bf16"]
    words += ["--no-flip", "--saliency"]
    words += ["a.png", "b c.png", "--templates", "a {}", "--templates", "the {}, again"]
    words += ["--set", "cost_channels=8"]
    assert invoke("toy", *words).exit_code == 0
    assert RUNS == [RECORD]


def test_set_gives_the_record():
    settings = "overlap=0.25 size=64 flip=false saliency=true precision=bf16 cost_channels=8"
    words = [word for setting in settings.split() for word in ("--set", setting)]
    words += ["--templates", "a {}", "--templates", "the {}, again"]
    words += ["--out=results", "a.png", "b c.png"]
    assert invoke("toy", *words).exit_code == 0
    assert RUNS == [RECORD]


def test_a_saved_record_is_accepted_as_config_file(tmp_path: Path):
    path = tmp_path / "run.yaml"
    save_config(path, RECORD)
    assert invoke("toy", "--config", path).exit_code == 0
    assert RUNS[0] == Toy(**{**vars(RECORD), "config": path})


def test_an_option_wins_over_the_config_file(tmp_path: Path):
    path = tmp_path / "run.toml"
    path.write_text('images = ["a.png"]\nout = "there"\noverlap = 0.1\nsaliency = true\n')
    assert invoke("toy", "c.png", f"--config={path}", "--overlap", "0.2").exit_code == 0
    assert RUNS[0].views.overlap == 0.2
    assert RUNS[0].images == ("c.png",)
    assert RUNS[0].out == Path("there")


@pytest.mark.parametrize(
    ("text", "fact"), [("overlp: 3", "overlp"), ("- a", "size: 512"), ("a: [", "YAML")]
)
def test_a_config_file_that_is_none(tmp_path: Path, text: str, fact: str):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with refused(path, fact):
        read_config(path, Toy)
    assert invoke("toy", "--config", path).exit_code == 2


def test_help_comes_from_the_comments():
    shown = invoke("toy", "--help")
    assert shown.exit_code == 0
    flags = ("--saliency", "--no-flip", "--size INT", "--out PATH", "{fp32,bf16}")
    for text in ("Share of a window", *flags):
        assert text in shown.stdout, text


@pytest.mark.parametrize(
    "words",
    [
        ["toy", "a.png"],
        ["toy", "a.png", "--out", "x", "--overlap", "much"],
        ["toy", "a.png", "--out", "x", "--overlp", "1"],
        ["toy", "a.png", "--out", "x", "--set", "overlap"],
        ["toy", "a.png", "--out", "x", "--set", "flip=maybe"],
        ["toyy"],
    ],
)
def test_mistakes_exit_with_2(words: list[str]):
    done = invoke(*words)
    assert done.exit_code == 2
    assert RUNS == []
    assert "Traceback" not in done.output


def test_json_values_are_plain():
    from disa.running.records import values

    assert json.loads(json.dumps(values(RECORD)))["templates"] == ["a {}", "the {}, again"]
