import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from small_run import save_clip
from typer.testing import CliRunner

from disa.errors import DisaError
from disa.evaluation.picturebook import GROUPS
from disa.interfaces.typer_cli import app
from disa.study.runner import LOG, RESULT, Budget, Job, Study
from disa.study.table import collect, differences, hours, markdown, verdicts
from disa.study.variants import QUESTIONS, REFERENCE, VARIANTS, folder_name

SMALL = {  # of a run that takes seconds, not minutes
    "backbone_image_size": "32", "backbone_guidance_blocks": "0,1", "cost_channels": "8", "cost_kernel": "3",
    "saliency_heads": "2", "disentangle_heads": "2", "refine_levels": "1", "refine_heads": "2", "refine_window": "2",
    "refine_guidance_channels": "8", "decode_channels": "8,8", "decode_guidance_source": "8,8",
    "decode_guidance_channels": "4,4", "warmup": "0",
}  # fmt: skip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip"))


def words(clip: Path, out: Path, *more: str) -> list[str]:
    settings = [part for name, value in SMALL.items() for part in ("--set", f"{name}={value}")]
    fixed = [
        "--steps",
        "2",
        "--batch",
        "1",
        "--scenes",
        "2",
        "--seeds",
        "0",
        "--only",
        "plain attention",
        *settings,
    ]
    return ["study", "ablation", "--clip", str(clip), "--out", str(out), *fixed, *more]


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until, "nothing happened for two minutes"
        time.sleep(0.1)


def running(folder: Path) -> list[list[str]]:
    """The commands of all processes that name the folder."""
    commands = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    return [command for command in commands if any(str(folder) in word for word in command)]


def result(miou: float, sdm: bool = True) -> dict[str, Any]:
    means = dict.fromkeys((*GROUPS, "seen", "unseen", "all"), 0.5)
    own = means if sdm else None
    numbers = {
        "miou": miou,
        "groups": dict.fromkeys(GROUPS, miou),
        "boundary_iou": means,
        "itm_auc": own,
    }
    return numbers | {
        "split_iou": own,
        "foreground_iou": 40.0 if sdm else None,
        "background_iou": 60.0,
    }


def test_the_plan_has_every_question_of_the_issue_and_no_name_twice() -> None:
    names = [folder_name(variant.name) for variant in VARIANTS]
    assert len(set(names)) == len(names)
    assert VARIANTS[0] is REFERENCE
    assert all(variants for variants in QUESTIONS.values())


def test_shared_parts_start_alike_in_every_variant(clip: Path) -> None:
    from disa.interfaces.train_command import split_changes
    from disa.recipes import RECIPES
    from disa.training.initial_weights import start_model
    from disa.training.settings import changed

    def start(recipe: str, changes: dict[str, str], seed: int) -> dict[str, torch.Tensor]:
        texts = [f"{name}={value}" for name, value in (SMALL | changes).items()]
        torch.manual_seed(seed)
        model, _, _ = start_model(changed(RECIPES[recipe](), split_changes(texts)[0]), clip, None)
        return model.state_dict()

    first = start(REFERENCE.recipe, REFERENCE.changes, 0)
    for variant in VARIANTS[1:]:
        other = start(variant.recipe, variant.changes, 0)
        for name in first.keys() & other.keys():
            if first[name].shape == other[name].shape and not name.startswith(
                "disentangle.aggregate"
            ):
                assert torch.equal(first[name], other[name]), (variant.name, name)
    again = start(REFERENCE.recipe, REFERENCE.changes, 1)
    assert not torch.equal(first["decode.head.weight"], again["decode.head.weight"])


def test_a_study_trains_measures_and_is_not_done_twice(clip: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "disa", *words(clip, tmp_path, "--jobs", "2")]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr + "".join(
        p.read_text() for p in tmp_path.glob("runs/*/*/log.txt")
    )
    assert "2 of 2 runs" in run.stdout
    assert run.stderr.count("mIoU") == 2
    assert len(list(tmp_path.glob(f"runs/*/seed-*/{RESULT}"))) == 2
    assert not list(tmp_path.glob("runs/*/*/checkpoints"))
    assert (tmp_path / "figures" / "saliency.png").is_file()
    assert len(list((tmp_path / "figures").glob("failure-*_prediction.png"))) == 4
    text = (tmp_path / "study.md").read_text()
    assert "### Which saliency?" in text and "### Which refinement?" in text
    assert "| saliency: plain attention | 1 |" in text
    again = CliRunner().invoke(app, words(clip, tmp_path, "--plan"))
    assert again.output.count("done  ") == 2 and "2 runs, 2 done" in again.output
    other = CliRunner().invoke(app, [*words(clip, tmp_path), "--batch", "2"])
    assert other.exit_code == 2 and "holds a study with batch=1; give the same" in other.output
    (tmp_path / "study.json").write_text("no json")
    damaged = CliRunner().invoke(app, words(clip, tmp_path))
    assert damaged.exit_code == 2 and "study.json: cannot be read" in damaged.output


def test_interrupted_it_lets_runs_save_and_goes_on(clip: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "disa", *words(clip, tmp_path), "--steps", "100000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "runs" / folder_name(REFERENCE.name) / "seed-0" / "log.jsonl"
    wait_for(lambda: log.exists() and log.stat().st_size > 0)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "the same command goes on" in said and "Traceback" not in said
    assert list(log.parent.glob("checkpoints/step-*"))
    assert not running(tmp_path)


def test_hours_count_every_start_of_a_run(clip: Path, tmp_path: Path) -> None:
    """A run that was interrupted after an hour, and is done in a second when started again, took an hour."""
    small = tuple(f"{name}={value}" for name, value in SMALL.items())
    study = Study(
        tmp_path, clip, Budget(steps=2, batch=1, scenes=1, settings=(*Budget.settings, *small))
    )
    (job,) = study.jobs([REFERENCE], [0])
    begun = CliRunner().invoke(app, study.training(job))
    assert begun.exit_code == 0, begun.output
    last = job.folder / "checkpoints" / "step-00000002" / "state.json"
    last.write_text(json.dumps(json.loads(last.read_text()) | {"seconds": 3600.0}))
    assert study.run([job], 1, lambda job, minutes: None) == []
    assert 1.0 < hours([job]) < 1.5


def test_runs_leave_when_their_study_is_killed(clip: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "disa", *words(clip, tmp_path), "--steps", "100000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    folder = tmp_path / "runs" / folder_name(REFERENCE.name) / "seed-0"
    wait_for(lambda: (folder / "log.jsonl").exists() and (folder / "log.jsonl").stat().st_size > 0)
    assert running(tmp_path)
    process.kill()
    process.communicate(timeout=60)
    wait_for(lambda: not running(tmp_path))
    assert "stopped after step" in (folder / LOG).read_text()
    assert list(folder.glob("checkpoints/step-*"))


def test_a_run_that_fails_is_named_and_does_not_stop_the_others(clip: Path, tmp_path: Path) -> None:
    study = Study(
        tmp_path, clip, Budget(steps=1, batch=1, scenes=1, settings=("no_such_setting=1",))
    )
    jobs = study.jobs([REFERENCE], [0, 1])
    failed = study.run(jobs, 1, lambda job, minutes: None)
    assert [each.job.seed for each in failed] == [0, 1]
    assert "no such setting" in failed[0].log.read_text()


def test_tables_pair_by_seed(tmp_path: Path) -> None:
    other = QUESTIONS["Which saliency?"][0]
    baseline = QUESTIONS["What does each part bring?"][0]
    table = {REFERENCE.name: (50.0, 60.0), other.name: (51.0, 61.5), baseline.name: (52.0, 58.0)}
    jobs = [
        Job(variant, seed, tmp_path / folder_name(variant.name) / f"seed-{seed}")
        for variant in (REFERENCE, other, baseline)
        for seed in (0, 1)
    ]
    for job in jobs:
        job.folder.mkdir(parents=True)
        numbers = result(table[job.variant.name][job.seed], sdm=job.variant is not baseline)
        (job.folder / RESULT).write_text(json.dumps(numbers))
    results = collect(jobs)
    assert differences(other.name, results) == [1.0, 1.5]
    assert [(name, word) for name, _, _, word in verdicts(results)] == [
        (other.name, "better"),
        (baseline.name, "open"),
    ]
    lines = [line for line in markdown(results).splitlines() if line.startswith(f"| {other.name}")]
    assert (
        lines == [line for line in lines if "| 56.2 ± 7.4 | +1.2 ± 0.4 |" in line]
        and len(lines) == 1
    )
    assert (
        len({line.count("|") for line in markdown(results).splitlines() if line.startswith("|")})
        == 1
    )


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--seeds", "a"], "whole numbers"),
        (["--only", "nothing like it"], "no variant is called so"),
        (["--set", "cost_channels=0"], "no network has these settings"),
        (["--set", "nonsense=0"], "no such setting"),
        (["--set", "seed=7"], "--set seed: use --seeds"),
        (["--set", "steps=5"], "--set steps: use --steps"),
        (["--set", "saliency_source=itm_gradient"], '"saliency: plain attention" sets it itself'),
        (["--seeds", "0,3000000000"], "seed=3000000000: must be at most"),
        (["--set", "precision=fp16"], "precision=fp16: not on a CPU"),
    ],
)
def test_bad_input_is_one_line(more: list[str], said: str, clip: Path, tmp_path: Path) -> None:
    answer = CliRunner().invoke(app, [*words(clip, tmp_path / "out"), *more])
    assert answer.exit_code == 2
    assert said in answer.output and len(answer.output.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_impossible_budgets_are_refused() -> None:
    with pytest.raises(DisaError, match="steps=0: must be at least 1"):
        Budget(steps=0)
