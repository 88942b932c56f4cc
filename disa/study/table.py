"""Results of a study as tables: (runs of variants x seeds) -> Markdown, with every spread and every paired difference.

A difference is paired: the same seed gives two networks the same scenes, categories and random start of shared parts.
"""

import json
from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any

from disa.study.runner import RESULT, TIME, Job
from disa.study.variants import QUESTIONS, REFERENCE, Variant

GROUPS = ("seen_things", "unseen_things", "seen_stuff", "unseen_stuff")
_HEAD = (
    "network", "seeds", "mIoU", "difference", *(name.replace("_", " ") for name in GROUPS), "boundary IoU",
    "split IoU", "foreground IoU", "background IoU", "ITM AUC, unseen",
)  # fmt: skip
Results = dict[str, dict[int, dict[str, Any]]]  # by the variant's name and the seed


def collect(jobs: Sequence[Job]) -> Results:
    """Return what has been measured so far."""
    found: Results = {}
    for job in jobs:
        if (path := job.folder / RESULT).exists():
            found.setdefault(job.variant.name, {})[job.seed] = json.loads(path.read_text())
    return found


def hours(jobs: Sequence[Job]) -> float:
    """Return the hours that the finished runs took, one after another on one core."""
    times = [path for job in jobs if (path := job.folder / TIME).exists()]
    return sum(json.loads(path.read_text())["seconds"] for path in times) / 3600


def markdown(results: Results) -> str:
    """Return a table for each question, below the reference; variants without any result are left out."""
    parts = []
    for question, variants in QUESTIONS.items():
        if rows := [
            _row(variant, results) for variant in (REFERENCE, *variants) if variant.name in results
        ]:
            parts += [f"### {question}\n", _line(_HEAD), "|" + "---|" * len(_HEAD), *rows, ""]
    return "\n".join(parts)


def verdicts(results: Results) -> list[tuple[str, float, float, str]]:
    """Return (variant, mean paired difference of mIoU, its spread, better | worse | open), best first.

    Better or worse: all seeds agree and the mean is larger than the spread (standard deviation). With one seed nothing
    is decided.
    """
    found = []
    for name in results:
        change = differences(name, results)
        if name == REFERENCE.name or not change:
            continue
        middle, spread = mean(change), stdev(change) if len(change) > 1 else float("nan")
        decided = (
            len(change) > 1 and abs(middle) > spread and len({value > 0 for value in change}) == 1
        )
        found.append(
            (name, middle, spread, ("better" if middle > 0 else "worse") if decided else "open")
        )
    return sorted(found, key=lambda entry: -entry[1])


def differences(name: str, results: Results) -> list[float]:
    """Return the variant's mIoU minus the reference's, for each seed that both have."""
    own, other = results.get(name, {}), results.get(REFERENCE.name, {})
    return [own[seed]["miou"] - other[seed]["miou"] for seed in sorted(own) if seed in other]


def _row(variant: Variant, results: Results) -> str:
    runs = [results[variant.name][seed] for seed in sorted(results[variant.name])]
    change = [] if variant is REFERENCE else differences(variant.name, results)
    cells = [variant.name, str(len(runs)), _spread([run["miou"] for run in runs])]
    cells.append(_spread(change, sign="+") if change else "-")
    cells += [_spread([run["groups"][group] for run in runs]) for group in GROUPS]
    cells.append(_spread([run["boundary_iou"]["all"] for run in runs]))
    if runs[0]["itm_auc"] is None:
        return _line([*cells, "-", "-", "-", "-"])
    cells.append(_spread([run["split_iou"]["all"] for run in runs]))
    cells += [
        _spread([run[f"{side}_iou"] for run in runs]) for side in ("foreground", "background")
    ]
    return _line([*cells, _spread([run["itm_auc"]["unseen"] for run in runs], digits=3)])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _spread(values: Sequence[float | None], sign: str = "", digits: int = 1) -> str:
    """Return mean and standard deviation, the latter from two values on; - where scenes were too few to tell."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    return f"{mean(known):{sign}.{digits}f}" + (
        f" ± {stdev(known):.{digits}f}" if len(known) > 1 else ""
    )
