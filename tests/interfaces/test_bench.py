"""`disa bench`: parts that add up, a baseline beside the model, and two runs compared."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command_line import invoke

import disa
from disa.evaluation.bench import timed_parts

SMALL = ("--picture", "48", "64", "--protocol", "whole", "--repeats", "1", "--device", "cpu")


def test_a_model_and_its_baseline_part_by_part(model_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "numbers.json"
    done = invoke("bench", model_folder, "--labels", 2, 5, *SMALL, "--json", file)
    assert done.exit_code == 0, done.output
    numbers = json.loads(file.read_text())
    assert numbers["picture"] == [48, 64]
    for name in ("model", "baseline"):
        assert [row["labels"] for row in numbers[name]] == [2, 5]
        for row in numbers[name]:
            multiples = row["multiples"]
            outside = ("call", "text", "saving")
            inside = sum(value for part, value in multiples.items() if part not in outside)
            assert inside == pytest.approx(multiples["call"])
            assert all(value >= 0 for value in multiples.values())
            assert ("split" in multiples) == (name == "model")

    again = invoke("bench", model_folder, "--labels", 5, *SMALL, "--against", file)
    assert again.exit_code == 0
    assert "before / now" in again.output


def test_a_recipe_is_measured_with_random_weights(tmp_path: Path) -> None:
    done = invoke("bench", "mini-baseline", "--labels", 3, *SMALL)
    assert done.exit_code == 0, done.output
    assert "baseline: model" in done.output


def test_parts_are_timed_only_while_the_block_runs(model_folder: Path) -> None:
    segmenter = disa.load(model_folder, "cpu")
    pixels = torch.zeros(1, 3, 48, 48)
    with timed_parts(segmenter) as spent, torch.no_grad():
        segmenter.model(pixels, segmenter.text(["House", "sea"]))
    assert all(seconds > 0 for name, seconds in spent.items())
    before = dict(spent)
    with torch.no_grad():
        segmenter.model(pixels, segmenter.text(["House", "sea"]))
    assert spent == before


def test_the_peak_counts_what_is_given_back() -> None:
    # A process of its own, as `disa bench` is: others may give memory back at the same time.
    script = (
        "import torch; from disa.evaluation.bench import peak_memory\n"
        "with peak_memory(torch.device('cpu')) as taken: torch.ones(12_500_000).max()\n"
        "print(taken())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "None" or 45e6 < int(done.stdout) < 200e6


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("no-such-model",), "no-such-model"),
        (("mini", "--labels", "0"), "--labels"),
        (("mini", "--repeats", "0"), "--repeats"),
        (("mini", "--picture", "8", "8"), "--picture"),
        (("mini", "--against", "none.json"), "none.json"),
    ],
)
def test_bad_input_is_one_line(arguments: tuple[str, ...], named: str) -> None:
    invoke("bench", *arguments).fails(named)
