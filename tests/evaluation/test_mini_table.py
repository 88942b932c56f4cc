import json
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from disa.evaluation.picturebook import GROUPS

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "mini_table.py"


def result(miou: float, sdm: bool) -> dict[str, Any]:
    names = (*GROUPS, "seen", "unseen", "all")
    means = dict.fromkeys(names, 0.5) if sdm else None
    return {
        "miou": miou, "groups": dict.fromkeys(GROUPS, miou), "itm_auc": means, "saliency_ap": means,
        "split_iou": means, "foreground_iou": 40.0 if sdm else None,
    }  # fmt: skip


def test_rows_give_mean_and_spread(tmp_path: Path) -> None:
    script = runpy.run_path(str(SCRIPT))
    for name, seed, miou, sdm in (
        ("base", 0, 50.0, False),
        ("disa-top-k", 0, 60.0, True),
        ("disa-top-k", 1, 64.0, True),
    ):
        folder = tmp_path / name / str(seed)
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps(result(miou, sdm)))
    rows = script["markdown"](tmp_path, ["base", "DiSa, top k", "never run"]).splitlines()
    assert len(rows) == 4
    assert {row.count("|") for row in rows} == {12}
    assert rows[2].startswith("| base | 1 | 50.0 |")
    assert rows[3].startswith("| DiSa, top k | 2 | 62.0 ± 2.8 |")
    assert "0.500 / 0.500" in rows[3]


def test_complete_runs_are_skipped_and_interrupted_ones_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = runpy.run_path(str(SCRIPT))
    called: list[list[str]] = []

    class Process:
        def __init__(self, words: list[str], **options: Any) -> None:
            called.append(words)

        def wait(self) -> int:
            return 130

    monkeypatch.setattr("subprocess.Popen", Process)
    options = SimpleNamespace(out=tmp_path, clip=Path("clip"), steps="5", scenes="5", set=["bf16=false"])
    (tmp_path / "base" / "0").mkdir(parents=True)
    (tmp_path / "base" / "0" / "result.json").write_text("{}")
    script["_run"](options, "base", "mini-baseline", {}, "0")
    assert called == []
    with pytest.raises(SystemExit, match="the same command goes on"):
        script["_run"](options, "base", "mini-baseline", {"saliency_split": "soft"}, "1")
    assert len(called) == 1
    assert called[0][called[0].index("--seed") :][:2] == ["--seed", "1"]
    assert {"bf16=false", "saliency_split=soft", "evaluate_scenes=0"} <= set(called[0])
