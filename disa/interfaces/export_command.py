"""`disa export`: a model as two graphs, for onnxruntime or PyTorch, compared with the network."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from rich.table import Table
from tyro.conf import Positional, arg

from disa.running.files import refuse_existing
from disa.running.terminal import say

if TYPE_CHECKING:
    from disa.inference.export import Comparison


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a model as graphs that run without its code, and compare them with it.

    OUT gets one graph for texts, one from images and texts to logits, the tokenizer and the
    configuration. Images, labels and sizes are free. `--model OUT` then segments with the graphs
    alone.

    Examples:

      disa export mini exported --format onnx

      disa export models/large exported-8-bit --format onnx --int8
    """

    # A name of `disa models`, a model folder, a CLIP, or an id on the Hugging Face Hub.
    model: Annotated[Positional[str], arg(metavar="MODEL")]
    # Folder of the graphs; it must not exist yet, or be empty.
    out: Annotated[Positional[Path], arg(metavar="OUT")]
    # For onnxruntime (`pip install disa-seg[onnx]`), or for PyTorch: torch.export's programs.
    format: Literal["onnx", "torch"] = "onnx"
    # Keep matrix weights in 8 bit: smaller, and with small differences that are shown.
    int8: bool = False

    def run(self) -> int:
        """Export. Raises `DisaError` if the graphs and the network differ; nothing is written."""
        from disa.inference.export import export
        from disa.weights.exported import network_of
        from disa.weights.load import load

        refuse_existing(self.out)
        model, tokenizer = load(self.model)
        comparisons = export(network_of(model), tokenizer, self.out, self.format, self.int8)
        bits = "in 8 bit" if self.int8 else "in 32 bit"
        say(_table(comparisons, f"{self.format} {bits} beside the network"))
        say(f"{self.out}: written")
        return 0


def _table(comparisons: Sequence["Comparison"], title: str) -> Table:
    table = Table("images", "labels", "pixels", "largest difference", "same label", title=title)
    table.caption = "difference: of all outputs, in shares of an output's largest value"
    for column in table.columns:
        column.justify = "right"
    for each in comparisons:
        table.add_row(
            str(each.images),
            str(each.labels),
            f"{each.width} x {each.height}",
            f"{each.difference:.1e}",
            f"{each.agreement:.2%}",
        )
    return table
