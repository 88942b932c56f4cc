"""The ablation's results as Markdown: a table for each question, and a verdict on each variant."""

from collections.abc import Iterator, Sequence
from statistics import mean, stdev
from typing import Any

from variants import QUESTIONS, REFERENCE

# Results by the variant's name and the seed; each is what `disa evaluate picturebook --json` wrote.
Results = dict[str, dict[int, dict[str, Any]]]

# Headings, where the number stands in a result, and how it is printed.
COLUMNS = {
    "mIoU": ("miou", ".1f"),
    "seen things": ("groups.seen_things", ".1f"),
    "unseen things": ("groups.unseen_things", ".1f"),
    "seen stuff": ("groups.seen_stuff", ".1f"),
    "unseen stuff": ("groups.unseen_stuff", ".1f"),
    "boundary IoU": ("boundary_iou.all", ".1f"),
    "of seen things": ("boundary_iou.seen_things", ".1f"),
    "of unseen things": ("boundary_iou.unseen_things", ".1f"),
    "of seen stuff": ("boundary_iou.seen_stuff", ".1f"),
    "of unseen stuff": ("boundary_iou.unseen_stuff", ".1f"),
    "split IoU": ("split_iou.all", ".1f"),
    "foreground IoU": ("foreground_iou.all", ".1f"),
    "of unseen things' scenes": ("foreground_iou.unseen_things", ".1f"),
    "background IoU": ("background_iou.all", ".1f"),
    "ITM AUC, unseen": ("itm_auc.unseen", ".3f"),
}


def markdown(results: Results) -> str:
    """Return all tables. Variants without a result are left out."""
    lines = list(verdicts(results))
    for question, variants in QUESTIONS.items():
        lines += ["", f"## {question}", "", row("network", "seeds", "difference", *COLUMNS)]
        lines.append("|---" * (len(COLUMNS) + 3) + "|")
        for variant in (REFERENCE, *variants):
            runs = list(results.get(variant.name, {}).values())
            if runs:
                change = spread(differences(variant.name, results), "+.1f")
                numbers = [
                    spread([lookup(run, place) for run in runs], form)
                    for place, form in COLUMNS.values()
                ]
                lines.append(row(variant.name, str(len(runs)), change, *numbers))
    return "\n".join(lines) + "\n"


def verdicts(results: Results) -> Iterator[str]:
    """Yield a table of all variants, the best first.

    A variant is better or worse than the reference if all seeds agree and the mean difference of
    mIoU is larger than its standard deviation. One seed decides nothing.
    """
    yield row("network", "difference of mIoU", "verdict")
    yield "|---|---|---|"
    changes = {name: differences(name, results) for name in results if name != REFERENCE.name}
    changes = {name: values for name, values in changes.items() if values}
    for name, values in sorted(changes.items(), key=lambda item: -mean(item[1])):
        yield row(name, spread(values, "+.2f"), verdict(values))


def verdict(differences: Sequence[float]) -> str:
    """Return better, worse or open for one variant's differences from the reference."""
    if len(differences) < 2 or abs(mean(differences)) <= stdev(differences):
        return "open"
    if min(differences) > 0:
        return "better"
    return "worse" if max(differences) < 0 else "open"


def differences(name: str, results: Results) -> list[float]:
    """Return the variant's mIoU minus the reference's, for each seed that both have.

    Runs of one seed are paired: they see the same scenes, and shared parts start alike.
    """
    own = results.get(name, {})
    reference = results.get(REFERENCE.name, {})
    seeds = [seed for seed in sorted(own) if seed in reference]
    return [own[seed]["miou"] - reference[seed]["miou"] for seed in seeds]


def lookup(result: Any, place: str) -> float | None:
    """Return the number at a place such as `groups.seen_things`, or None if there is none."""
    for key in place.split("."):
        result = None if result is None else result.get(key)
    return result


def spread(values: Sequence[float | None], form: str) -> str:
    """Return the mean, from two values on with the standard deviation; - if none is known."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    if len(known) == 1:
        return f"{known[0]:{form}}"
    return f"{mean(known):{form}} ± {stdev(known):{form.lstrip('+')}}"


def row(*cells: str) -> str:
    """Return a line of a table."""
    return "| " + " | ".join(cells) + " |"
