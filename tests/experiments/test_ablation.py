"""The ablation trains and measures its variants, pairs them, and does nothing twice."""

import json
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ablation import SETTINGS, Run, main, parse_settings, save_start
from safetensors.torch import load_file
from small_run import save_clip
from table import COLUMNS, Results, differences, markdown
from variants import QUESTIONS, REFERENCE, VARIANTS

# of a run that takes seconds
SMALL = [
    *("backbone_image_size=32", "backbone_guidance_blocks=0,1", "cost_channels=8", "cost_kernel=3"),
    *("saliency_heads=2", "disentangle_heads=2", "refine_levels=1", "refine_heads=2"),
    *("refine_window=2", "refine_guidance_channels=8", "decode_channels=8,8"),
    *("decode_guidance_source=8,8", "decode_guidance_channels=4,4", "warmup=0"),
]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def run_script(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., int | str | None]:
    """Return the script as a function of further options, which returns its exit code."""

    def run(*more: str) -> int | str | None:
        budget = ["--steps", "2", "--batch", "1", "--scenes", "2", "--seeds", "0", "--set", *SMALL]
        words = ["--clip", str(clip), "--out", str(tmp_path), *budget, *more]
        monkeypatch.setattr(sys, "argv", ["ablation.py", *words])
        try:
            return main()
        except SystemExit as leaving:
            return leaving.code

    return run


@pytest.mark.slow
def test_two_variants_are_trained_and_measured_once(
    run_script: Callable[..., int | str | None], tmp_path: Path
) -> None:
    code = run_script("--only", "plain attention", "--jobs", "2")
    assert code == 0, [path.read_text() for path in tmp_path.rglob("log.txt")]
    results = sorted(tmp_path.glob("runs/*/seed-0/result.json"))
    assert len(results) == 2
    assert "saliency: plain attention | 1 |" in (tmp_path / "study.md").read_text()
    assert (tmp_path / "saliency.png").is_file()
    assert not list(tmp_path.rglob("checkpoints")) and not list(tmp_path.rglob("start"))

    # every number that the tables show is in the result of a network with an SDM
    result = json.loads(results[0].read_text())
    for place, _ in COLUMNS.values():
        value = result
        for key in place.split("."):
            value = value[key]

    before = [path.stat().st_mtime_ns for path in results]
    assert run_script("--only", "plain attention") == 0
    assert [path.stat().st_mtime_ns for path in results] == before
    assert str(tmp_path / "study.json") in run_script("--steps", "3")


@pytest.mark.slow
def test_a_run_that_fails_does_not_stop_the_others(
    run_script: Callable[..., int | str | None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_script("--only", "no variant", "--set", *SMALL, "unknown=1") == 1
    assert "log.txt" in capsys.readouterr().out
    assert "unknown" in next(tmp_path.rglob("log.txt")).read_text()


def start(variant: Any, seed: int, clip: Path, out: Path) -> dict[str, torch.Tensor]:
    run = Run(variant, seed, Namespace(clip=clip, out=out))
    return load_file(
        save_start(run, SETTINGS | parse_settings(SMALL) | variant.changes) / "model.safetensors"
    )


@pytest.mark.slow
def test_shared_parts_start_alike_in_every_variant(clip: Path, tmp_path: Path) -> None:
    first = start(REFERENCE, 0, clip, tmp_path)
    for variant in VARIANTS[1:]:
        other = start(variant, 0, clip, tmp_path)
        for name in first.keys() & other.keys():
            if first[name].shape == other[name].shape:
                assert torch.equal(first[name], other[name]), (variant.name, name)
    again = start(REFERENCE, 1, clip, tmp_path)
    assert not torch.equal(first["decode.head.weight"], again["decode.head.weight"])


def test_no_two_variants_share_a_folder_or_are_the_same() -> None:
    assert len({variant.folder for variant in VARIANTS}) == len(VARIANTS)
    networks = [(variant.recipe, variant.changes) for variant in VARIANTS]
    assert all(networks.count(network) == 1 for network in networks)


def result(miou: float, sdm: bool = True) -> dict[str, Any]:
    groups = ("seen_things", "unseen_things", "seen_stuff", "unseen_stuff")
    means = {"all": 0.5, "unseen": 0.5}
    of_sdm: dict[str, Any] = {"itm_auc": means, "split_iou": means, "foreground_iou": {"all": 40.0}}
    numbers = {"miou": miou, "groups": dict.fromkeys(groups, miou), "boundary_iou": means}
    return numbers | (of_sdm if sdm else dict.fromkeys(of_sdm)) | {"background_iou": {"all": 60.0}}


def test_tables_pair_by_seed() -> None:
    better = QUESTIONS["Which saliency?"][0].name
    undecided = QUESTIONS["What does each part bring?"][0].name
    results: Results = {
        REFERENCE.name: {0: result(50.0), 1: result(60.0), 2: result(0.0)},
        better: {1: result(61.5), 0: result(51.0)},
        undecided: {0: result(52.0, sdm=False), 1: result(58.0, sdm=False)},
    }
    assert differences(better, REFERENCE.name, results) == [1.0, 1.5]
    assert differences(better, undecided, results, "unseen things") == [-1.0, 3.5]

    lines = markdown(results).splitlines()
    # mIoU, unseen things, boundary IoU twice (one is not in the results), foreground IoU
    same = "+0.00 ± 0.00 open"
    gain = "+1.25 ± 0.35 better"
    assert f"| {better} | 2 | {gain} | {gain} | {same} | - | {same} |" in lines
    change = "+0.00 ± 2.83 open"
    assert f"| {undecided} | 2 | {change} | {change} | {same} | - | - |" in lines
    rows = [line for line in lines if line.startswith(f"| {better} | 2 | +1.2 ± 0.4 |")]
    assert len(rows) == 1 and "| 56.2 ± 7.4 |" in rows[0]
    assert [line for line in lines if line.startswith("## Against")] == [
        f"## Against {REFERENCE.name}",
        f"## Against {undecided}",
    ]
    assert "## Which refinement?" not in lines
    assert any(line.startswith(f"| {undecided}") and line.endswith("| - |") for line in lines)
