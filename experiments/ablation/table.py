"""The ablation's results as Markdown: a table for each question, and a verdict on each variant."""

from collections.abc import Iterator, Sequence
from statistics import mean, stdev
from typing import Any

from variants import BASELINE, QUESTIONS, REFERENCE

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
# What DiSa claims to mend, and mIoU: a verdict on each.
CLAIMS = ("mIoU", "unseen things", "boundary IoU", "of unseen things", "foreground IoU")


def markdown(results: Results) -> str:
    """Return all tables, without variants that have no result and questions that have none."""
    lines = []
    for other in (REFERENCE, BASELINE):
        if other.name in results:
            lines += [f"## Against {other.name}", "", *verdicts(results, other.name), ""]
    for question, variants in QUESTIONS.items():
        if not any(variant.name in results for variant in variants):
            continue
        lines += [f"## {question}", "", row("network", "seeds", "difference", *COLUMNS)]
        lines.append("|---" * (len(COLUMNS) + 3) + "|")
        for variant in (REFERENCE, *variants):
            runs = list(results.get(variant.name, {}).values())
            if runs:
                change = spread(differences(variant.name, REFERENCE.name, results), "+.1f")
                numbers = [
                    spread([lookup(run, place) for run in runs], form)
                    for place, form in COLUMNS.values()
                ]
                lines.append(row(variant.name, str(len(runs)), change, *numbers))
        lines.append("")
    return "\n".join(lines) + "\n"


def verdicts(results: Results, other: str) -> Iterator[str]:
    """Yield a table of all variants against one of them, the best mIoU first.

    A variant is better or worse if all seeds agree and the mean difference is larger than its
    standard deviation. One seed decides nothing.
    """
    yield row("network", "seeds", *CLAIMS)
    yield "|---" * (len(CLAIMS) + 2) + "|"
    changes = {name: differences(name, other, results) for name in results if name != other}
    changes = {name: values for name, values in changes.items() if values}
    for name, values in sorted(changes.items(), key=lambda item: -mean(item[1])):
        cells = [judged(differences(name, other, results, claim)) for claim in CLAIMS]
        yield row(name, str(len(values)), *cells)


def judged(differences: Sequence[float]) -> str:
    """Return a mean difference, its spread, and what they say."""
    if not differences:
        return "-"
    return f"{spread(differences, '+.2f')} {verdict(differences)}"


def verdict(differences: Sequence[float]) -> str:
    """Return better, worse or open for one variant's differences from the reference."""
    if len(differences) < 2 or abs(mean(differences)) <= stdev(differences):
        return "open"
    if min(differences) > 0:
        return "better"
    return "worse" if max(differences) < 0 else "open"


def differences(name: str, other: str, results: Results, column: str = "mIoU") -> list[float]:
    """Return one variant's numbers minus another's, for each seed that both have.

    Runs of one seed are paired: they see the same scenes, and shared parts start alike.
    """
    place, _ = COLUMNS[column]
    found = []
    for seed, run in sorted(results.get(name, {}).items()):
        value = lookup(run, place)
        compared = lookup(results.get(other, {}).get(seed), place)
        if value is not None and compared is not None:
            found.append(value - compared)
    return found


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
