"""`disa bench`: what a picture costs, part by part, in multiples of CLIP's image encoder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

from rich.table import Table
from tyro.conf import Positional, arg

from disa.errors import DisaError
from disa.inference.request import check_gate
from disa.recipes import BASELINE, RECIPES
from disa.running.files import prepare_file, write_json
from disa.running.reading import read_json
from disa.running.terminal import counted, say

if TYPE_CHECKING:
    from disa.evaluation.bench import Timing
    from disa.inference.segmenter import Segmenter

BOTH = ("model", "baseline")


class Row(TypedDict):
    """What a run with one number of labels has at least."""

    labels: int
    multiples: dict[str, float]


class Measured(TypedDict, total=False):
    """What a file of an earlier run holds."""

    model: list[Row]
    baseline: list[Row]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Measure where the time of a picture goes: CLIP, saliency, split, refinement, decoder.

    Everything is given in multiples of what CLIP's image encoder alone takes for the same views in
    the same run, as medians after a warm-up. A model with the SDM is measured beside its baseline,
    the same network without what DiSa adds.

    Examples:

      disa bench vit-b-16 --labels 20 150

      disa bench mini --protocol whole --json now.json --against before.json
    """

    # A name of `disa models`, a model folder, or a recipe, whose weights are then random.
    model: Annotated[Positional[str], arg(metavar="MODEL")]
    # Numbers of labels; each is measured.
    labels: tuple[int, ...] = (1, 20, 59, 150, 459, 847, 10_000)
    # `cat-seg`: five views of a picture; `whole`: one; `windows`: sliding.
    protocol: str = "cat-seg"
    # Height and width of the picture in pixels.
    picture: tuple[int, int] = (480, 640)
    # Calls whose median counts.
    repeats: int = 3
    # Of many labels, compute only so many. Default: all.
    gate: int | None = None
    # Memory that a picture may take above the loaded model, about, such as 500MB. Default: 8GB.
    max_memory: str | None = None
    # Threads of a CPU. Default: torch's own choice.
    threads: int | None = None
    # Numbers inside the model.
    dtype: Literal["fp32", "bf16", "fp16"] = "fp32"
    # auto (CUDA, else MPS, else CPU), cpu, cuda, cuda:1 or mps.
    device: str = "auto"
    # Write all numbers to this file.
    json: Path | None = None
    # Numbers of an earlier run (`--json`), to be compared with.
    against: Path | None = None

    def run(self) -> int:
        """Measure and print. Raises `DisaError` for an unknown model and numbers out of range."""
        import torch

        self._check()
        earlier = None if self.against is None else read_measured(self.against)
        if self.json is not None:
            prepare_file(self.json)
        if self.threads is not None:
            torch.set_num_threads(self.threads)

        result: dict[str, Any] = self._facts()
        segmenters = _segmenters(self.model, self.device, self.dtype, self.max_memory)
        for name, segmenter in segmenters.items():
            result[name] = self._measure(name, segmenter)
            say(_table(f"{self.model}: {name}", result[name]))
        if self.json is not None:
            write_json(self.json, result, indent=2)
        if earlier is not None:
            say(comparison(earlier, result))
        return 0

    def _check(self) -> None:
        if min(*self.labels, 1) < 1 or max(*self.labels, 1) > 10**6:
            raise DisaError(f"--labels {' '.join(map(str, self.labels))}: choose 1 to 1,000,000")
        if not all(32 <= side <= 4096 for side in self.picture):
            raise DisaError(f"--picture {self.picture}: sides are 32 to 4096 pixels")
        check_gate(self.gate)
        for name in ("repeats", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise DisaError(f"--{name} {value}: choose 1 or more")

    def _facts(self) -> dict[str, Any]:
        import torch

        from disa.running.provenance import code_and_machine

        names = ("protocol", "picture", "dtype", "gate", "max_memory")
        settings = {name: getattr(self, name) for name in names}
        return settings | code_and_machine() | {"threads": torch.get_num_threads()}

    def _measure(self, name: str, segmenter: "Segmenter") -> list[dict[str, Any]]:
        from disa.evaluation.bench import bench_picture, measure
        from disa.inference.protocol import Protocol

        picture = bench_picture(*self.picture)
        protocol = Protocol(self.protocol)
        rows = []
        with counted(f"measuring {name}") as report:
            for done, labels in enumerate(self.labels):
                report(done, len(self.labels), f"{labels} labels")
                timing = measure(segmenter, picture, labels, protocol, self.repeats, self.gate)
                rows.append(_row(timing))
        return rows


def _segmenters(
    model: str, device: str, dtype: str, max_memory: str | None
) -> "dict[str, Segmenter]":
    """Return the model, and its baseline if it is no baseline itself."""
    import torch
    from tokenizers import Tokenizer

    from disa.inference.memory import parse_memory
    from disa.inference.segmenter import Segmenter
    from disa.model.disa import Disa
    from disa.running.devices import DTYPES, choose_device
    from disa.training.initial_weights import tokenizer_for
    from disa.weights.exported import network_of
    from disa.weights.load import Loaded, load

    memory = parse_memory(max_memory)
    if model in RECIPES:
        torch.manual_seed(0)
        config = RECIPES[model]()
        tokenizer = Tokenizer.from_file(str(tokenizer_for(config)))
        loaded = Loaded(Disa(config).eval(), tokenizer)
    else:
        loaded = load(model)
    network = network_of(loaded.model)
    networks = {"model": network}
    if network.config.disentangle:
        base = Disa(network.config.replace(**BASELINE))
        base.load_state_dict(network.state_dict(), strict=False)
        networks["baseline"] = base.eval()
    chosen = choose_device(device)
    return {
        name: Segmenter(network, loaded.tokenizer, chosen, DTYPES[dtype], memory)
        for name, network in networks.items()
    }


def _row(timing: "Timing") -> dict[str, Any]:
    """Return plain data: seconds, and everything in multiples of CLIP's passes."""
    seconds = {"call": timing.call, **timing.parts, "text": timing.text, "saving": timing.saving}
    seconds["blending and the rest"] = timing.call - sum(timing.parts.values())
    return {
        "labels": timing.labels,
        "clip_seconds": timing.clip,
        "multiples": {name: value / timing.clip for name, value in seconds.items()},
        "peak_bytes": timing.peak,
    }


def _table(title: str, rows: Sequence[dict[str, Any]]) -> Table:
    """Return the multiples: a column for each number of labels, so that terminals have room."""
    counts = (f"{row['labels']:,}" for row in rows)
    shown = Table("labels", *counts, title=title, title_justify="left")
    for column in shown.columns[1:]:
        column.justify = "right"
    for part in rows[0]["multiples"]:
        shown.add_row(part, *(f"{row['multiples'][part]:.2f}" for row in rows))
    peaks = (row["peak_bytes"] for row in rows)
    shown.add_row("peak MB", *("-" if peak is None else f"{peak / 1e6:.0f}" for peak in peaks))
    clip = rows[0]["clip_seconds"]
    shown.caption = f"in passes of CLIP's image encoder, {clip:.3g} s in all views of the picture"
    return shown


def read_measured(path: Path) -> Measured:
    """Return the numbers of an earlier run. Raises `DisaError` for a file without any."""
    measured: Measured = read_json(path, "give a file that disa bench --json wrote", Measured)
    return measured


def comparison(earlier: Measured, now: dict[str, Any]) -> Table:
    """Return how the multiples of two runs differ, where both have the same labels."""
    shown = Table("network", "labels", "before", "now", "before / now")
    for column in shown.columns[1:]:
        column.justify = "right"
    for name in BOTH:
        rows: Any = earlier.get(name, ())
        before = {row["labels"]: row["multiples"].get("call") for row in rows}
        for row in now.get(name, ()):
            old = before.get(row["labels"])
            if old is not None:
                new = row["multiples"]["call"]
                numbers = (f"{old:.2f}", f"{new:.2f}", f"{old / new:.2f}")
                shown.add_row(name, f"{row['labels']:,}", *numbers)
    return shown
