"""What survives an interruption: a run's counts on disk, and which run they belong to.

Signature: (folder, Run) -> the counts of every image that earlier sittings have done. `state.safetensors` holds what is
settled; beside it each process has a part of its own, `state-RANK.safetensors`, of what it has counted since. A part is
taken up only if none of its images is settled already, so dying at any instant loses a few seconds and repeats nothing.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from disa.errors import DisaError
from disa.evaluation.tally import Tally
from disa.running.files import write_whole


class Run(NamedTuple):
    """What defines a number: two sittings whose facts are equal count for the same result."""

    facts: dict[str, Any]  # plain JSON data: data set, images, weights, protocol, prompts, ...
    images: int
    categories: int
    ignored: int

    def empty(self) -> "Counted":
        """Return the counts of no image."""
        return Counted(Tally(self.images, self.categories, self.ignored), [])


class Counted(NamedTuple):
    """A tally, and the sittings (date, commit, device, images, seconds, ...) in which it was counted."""

    tally: Tally
    sittings: list[dict[str, Any]]


class State:
    """The files of one run in its folder."""

    def __init__(self, folder: Path, run: Run) -> None:
        self.folder, self.run = folder, run
        self.settled = folder / "state.safetensors"

    def take_up(self) -> Counted:
        """Return what earlier sittings have counted, their parts settled. For one process, while no other writes.

        Raises `DisaError` if a file is damaged, or of another run.
        """
        total = self.read(self.settled) if self.settled.exists() else self.run.empty()
        for path in sorted(self.folder.glob("state-*.safetensors")):
            part = self.read(path)
            if total.tally.merge(
                part.tally
            ):  # else it was settled by a sitting that died before deleting it
                total.sittings.extend(part.sittings)
        if total.tally.done.any():
            self.settle(total)
        return total

    def settle(self, total: Counted) -> None:
        """Make `total` what is settled; it holds every part's images, so the parts go."""
        self._write(self.settled, total)
        for part in (*self.folder.glob("state-*.safetensors"), *self.folder.glob(".state*.part")):
            part.unlink(missing_ok=True)

    def write_part(self, rank: int, counted: Counted) -> None:
        """Keep what a process has counted in this sitting. Raises `DisaError` if the disk refuses."""
        self._write(self.folder / f"state-{rank:03d}.safetensors", counted)

    def read(self, path: Path) -> Counted:
        """Read one file. Raises `DisaError` if it is damaged, or of another run: then the line says what differs."""
        counted = self.run.empty()
        try:
            with safe_open(path, "pt") as file:
                about = file.metadata() or {}
                facts = json.loads(about["run"])
                if facts == self.run.facts:
                    counted.sittings.extend(json.loads(about["sittings"]))
                    counted.tally.restore(
                        {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
                    )
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise DisaError(
                f"{path}: damaged ({' '.join(str(error).split())}); delete it to count again"
            ) from None
        if facts != self.run.facts:
            said = _difference(facts, self.run.facts)
            raise DisaError(
                f"{self.folder}: holds another run ({said}); choose another folder, or delete that one"
            )
        return counted

    def _write(self, path: Path, counted: Counted) -> None:
        about = {"run": json.dumps(self.run.facts), "sittings": json.dumps(counted.sittings)}
        content = save(
            {name: tensor.contiguous() for name, tensor in counted.tally.tensors().items()}, about
        )
        write_whole(path, lambda file: file.write(content))


def _difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Return the first entry that differs, shortened: "protocol whole, not cat-seg"."""
    name = next(key for key in (*here, *there) if there.get(key) != here.get(key))
    return f"{name.replace('_', ' ')} {str(there.get(name))[:24]}, not {str(here.get(name))[:24]}"
