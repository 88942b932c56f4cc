"""`disa doctor`: what is installed here, what it runs on, and what works without a network."""

import json
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from disa.errors import DisaError, one_line
from disa.running.terminal import say
from disa.weights import names

DISTRIBUTION = "disa-seg"
FOR_DEVELOPERS = ("dev", "docs", "test")
LABELS = ("house", "sea", "sky")
# "pillow-heif>=1.1; extra == 'heif'"
EXTRA = re.compile(r"""([\w.-]+).*; extra == ["']([\w-]+)["']""")


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Show versions, devices, caches, extras, and which models work offline; try the bundled one.

    Its output belongs into every report of a fault.
    """

    # Print JSON.
    json: bool = False

    def run(self) -> int:
        """Print what was found. Exit with 1 if the bundled model cannot segment a drawing."""
        findings = {
            "code": _code(),
            "devices": _devices(),
            "caches": _caches(),
            "extras": _extras(),
            "models": _models(),
        }
        findings["trial"] = trial = _trial()
        if self.json:
            say(*json.dumps(findings, indent=2).split("\n"))
        else:
            for title, facts in findings.items():
                say(f"{title}:")
                for name, fact in facts.items():
                    say(f"  {name:<18} {_shown(fact)}")
        return 0 if trial["mini segments"] else 1


def _shown(fact: Any) -> str:
    if isinstance(fact, dict):
        return ", ".join(f"{name} {value}" for name, value in fact.items())
    if isinstance(fact, bool):
        return "yes" if fact else "no"
    return "unknown" if fact is None else str(fact)


def _code() -> dict[str, Any]:
    from disa.running.provenance import code_and_machine
    from disa.version import __version__

    facts = code_and_machine()
    package = Path(__file__).parents[1]
    return {
        "disa": __version__,
        "commit": facts["commit"],
        "folder": str(package),
        "machine": facts["machine"],
    } | facts["versions"]


def _devices() -> dict[str, Any]:
    import torch

    from disa.running.devices import choose_device

    gpus = {
        f"cuda:{index}": torch.cuda.get_device_name(index)
        for index in range(torch.cuda.device_count())
    }
    mps = {"mps": "Apple"} if torch.backends.mps.is_available() else {}
    return {"chosen": str(choose_device()), "threads": torch.get_num_threads()} | gpus | mps


def _caches() -> dict[str, Any]:
    from huggingface_hub import constants

    from disa.running.files import cache_folder

    return {"disa": str(cache_folder()), "Hub": constants.HF_HUB_CACHE}


def _extras() -> dict[str, Any]:
    """Return for each extra whether it is installed, or the command that installs it."""
    packages: dict[str, list[str]] = {}
    for requirement in metadata.requires(DISTRIBUTION) or ():
        found = EXTRA.fullmatch(requirement)
        if found and found[2] not in FOR_DEVELOPERS:
            packages.setdefault(found[2], []).append(found[1])

    facts = {}
    for extra, needed in sorted(packages.items()):
        lacking = [package for package in needed if not _is_installed(package)]
        remedy = f"lacks {', '.join(lacking)}: pip install '{DISTRIBUTION}[{extra}]'"
        facts[extra] = remedy if lacking else "installed"
    return facts


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _models() -> dict[str, Any]:
    from disa.weights.fetching import hub_answers, is_here

    facts: dict[str, Any] = {"Hub answers": hub_answers()}
    for name in names.BUNDLED:
        facts[name] = "bundled" if name in names.bundled_models() else "missing; install disa again"
    for name in names.PUBLISHED:
        facts[name] = "here, works offline" if is_here(name) else "fetched when first used"
    return facts


def _trial() -> dict[str, Any]:
    """Segment a drawing, as the shortest proof that all of it works together."""
    from time import perf_counter

    import disa
    from disa.data.drawn import DrawnDataset

    try:
        segmenter = disa.load("mini")
        start = perf_counter()
        segmenter(DrawnDataset("val", 1).image(0), LABELS)
    except (DisaError, ImportError, RuntimeError) as error:
        return {"mini segments": False, "error": one_line(error)}
    return {"mini segments": True, "seconds": round(perf_counter() - start, 2)}
