"""The command line: names, options and help of every command. What a command does is in the file of its name.

Nothing heavy is imported here, so that help answers at once; each command imports its `run` when it is called.
"""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import disa
from disa.errors import DisaError, memory_errors_as
from disa.interfaces.data_cli import data
from disa.interfaces.options import Device, Model
from disa.interfaces.training_cli import training

FAILED, INTERRUPTED = 2, 130


class Commands(TyperGroup):
    """Every command's errors in one place: one line on stderr and an exit code, never a traceback for bad input."""

    def invoke(self, ctx: Any) -> object:
        """Run the command. A `DisaError` and memory that runs out exit with 2, Ctrl-C with 130."""
        try:
            with memory_errors_as(
                "out of memory; choose smaller pictures, fewer labels or --device cpu"
            ):
                return super().invoke(ctx)
        except DisaError as error:
            typer.echo(f"error: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(FAILED) from None
        except KeyboardInterrupt:
            typer.echo("interrupted: files already written are whole and kept", err=True)
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(training)
app.add_typer(data, name="data")


def _version(asked: bool) -> bool:
    if asked:
        typer.echo(f"disa {disa.__version__}")
        raise typer.Exit
    return asked


@app.callback()
def disa_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """Segment pictures by words: every pixel gets one of the labels that you name, in your own words.

    Try `disa segment boat.png --labels "boat, sea, sky" --out results`.

    Exit codes: 0 done, 1 some pictures failed, 2 nothing could be done, 130 interrupted.
    """


@app.command()
def segment(
    images: Annotated[
        list[str],
        typer.Argument(help='Pictures, folders of pictures, or globs such as "trip/**/*.jpg".'),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the results; made if need be.")
    ],
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            "-l",
            help='What to look for, with commas between: "house, sea, grass". Synonyms: "boat|ship".',
        ),
    ] = None,
    vocabulary: Annotated[
        str | None,
        typer.Option(
            help="Labels by the name of their vocabulary (`a150`), or from a file (classes.txt or JSON)."
        ),
    ] = None,
    synonyms: Annotated[
        bool,
        typer.Option(
            "--synonyms", help="With --vocabulary: average the synonyms of each label, too."
        ),
    ] = False,
    model: Model = "mini",
    background: Annotated[
        str,
        typer.Option(
            help="Which pixels get none of the labels: `none`; a number such as 0.3: those whose best score is lower; "
            '`saliency`: those outside the foreground; or words that compete with the labels: "wall, floor".'
        ),
    ] = "none",
    templates: Annotated[
        list[str] | None,
        typer.Option(
            "--templates",
            "--template",
            help='Prompts in place of the model\'s own: "a picture of a {}", or the name of a published set: '
            "`imagenet` (80 prompts, averaged), `imagenet-7`, `cat-seg`, `clip`. May be repeated.",
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Pixels of the picture's short side; more is finer, slower. Default: see --protocol.",
        ),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(
            help="`whole`: one view, its short side as the model's own; `windows`: sliding windows over the picture at "
            "its own size, for large pictures; `cat-seg`: the baseline's published protocol, five views."
        ),
    ] = "whole",
    overlap: Annotated[
        float,
        typer.Option(
            help="Share of a window that the next one shows, too, with `--protocol windows`."
        ),
    ] = 1 / 3,
    saliency: Annotated[
        bool, typer.Option("--saliency", help="Write heat maps of where each label looks, too.")
    ] = False,
    scores: Annotated[
        bool, typer.Option("--scores", help="Write every label's score per pixel (.npz), too.")
    ] = False,
    beside: Annotated[
        bool, typer.Option("--beside", help="Put the original beside the overlay.")
    ] = False,
    device: Device = "auto",
    max_pixels: Annotated[
        int,
        typer.Option(
            min=1, help="Refuse files with more pixels than this: they would fill the memory."
        ),
    ] = 100_000_000,
) -> None:
    """Segment pictures by labels given as text.

    For each picture, OUT gets NAME_overlay.png (to look at, with a legend), NAME_labels.png (label indices with a
    palette, 255 is background) and NAME.json (area and mean score of each label).

    A picture that cannot be read is reported and the others are done.

    Examples:

    - `disa segment boat.png --labels "boat|ship, sea, sky" --out results`

    - `disa segment holiday/ --labels "person, dog, sand, sea" --out results --background 0.3`

    - `disa segment "scans/*.tif" --labels "cup, apple" --background "table, wall" --out results --saliency`

    - `disa segment rooms/ --vocabulary a150 --out results`
    """
    from disa.interfaces.segment_command import run

    code = run(
        images,
        labels,
        out,
        vocabulary=vocabulary,
        synonyms=synonyms,
        model=model,
        background=background,
        templates=templates,
        size=size,
        protocol=protocol,
        overlap=overlap,
        saliency=saliency,
        scores=scores,
        beside=beside,
        device=device,
        max_pixels=max_pixels,
    )
    raise typer.Exit(code)


@app.command()
def convert(
    kind: Annotated[
        str, typer.Argument(help="Whose checkpoint it is: `cat-seg`, DiSa's baseline.")
    ],
    checkpoint: Annotated[
        Path, typer.Argument(help="The published file: model_base.pth or model_large.pth.")
    ],
    out: Annotated[
        Path, typer.Argument(help="Folder of the model; it must not exist yet, or be empty.")
    ],
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            help="CLIP's tokenizer.json. Default: the one beside the checkpoint, else that of OpenAI's CLIPs, which "
            "comes with disa."
        ),
    ] = None,
) -> None:
    """Convert a published checkpoint to a model folder; every tensor is kept, and nothing in the file is run.

    Example: `disa convert cat-seg model_base.pth models/cat-seg-b`, then `disa segment ... --model models/cat-seg-b`.
    With a network, `--model cat-seg-b` fetches and converts by itself.
    """
    from disa.interfaces.convert_command import run

    run(kind, checkpoint, out, tokenizer=tokenizer)


@app.command()
def info(
    model: Annotated[
        str, typer.Argument(help="A bundled model, a model folder, or a recipe such as `vit-l-14`.")
    ],
    labels: Annotated[
        int, typer.Option(min=1, max=10**6, help="Number of labels at which to count operations.")
    ] = 20,
    size: Annotated[
        int | None,
        typer.Option(
            min=1, help="Pixels of the picture's side inside the model. Default: the model's own."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a model's parameters by part, and the operations that one picture takes.

    Example: `disa info vit-l-14 --labels 171`
    """
    from disa.interfaces.info_command import run

    run(model, labels=labels, size=size, as_json=json)


@app.command()
def vocabulary(
    name: Annotated[
        str,
        typer.Argument(
            help="coco-stuff, a150, a847, pc59, pc459, pas20, pas20b, or a file (classes.txt or JSON)."
        ),
    ],
    synonyms: Annotated[
        bool,
        typer.Option(
            "--synonyms", help="With all synonyms, whose embeddings are averaged: boat|ship."
        ),
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON, which can be changed and used as a file.")
    ] = False,
) -> None:
    """Print a vocabulary: what is prompted, thing or stuff where known, and prompts that are identical.

    Example: `disa vocabulary a847`
    """
    from disa.interfaces.vocabulary_command import run

    run(name, synonyms=synonyms, as_json=json)


@app.command()
def models() -> None:
    """List the models that come with disa or are fetched by name, and what they know."""
    from disa.interfaces.models_command import run

    run()


def main(arguments: list[str]) -> int:
    """Run a command that is not a record yet."""
    return int(app(arguments, prog_name="disa") or 0)
