"""Published sets of prompts by name: "imagenet" -> ("a bad photo of a {}.", ...).

Facts of other people's work, as data in templates.json; sources are named there. Free of torch.
"""

import json
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("templates.json")


@cache
def template_sets() -> dict[str, tuple[str, ...]]:
    """Return all sets by name."""
    data = json.loads(FILE.read_text(encoding="utf-8"))
    return {name: tuple(entry["templates"]) for name, entry in data.items()}
