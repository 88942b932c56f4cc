"""`disa vocabulary` and `disa picturebook`: what a model is asked for, and the drawn world."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from disa.data.vocabulary import VOCABULARIES, load_vocabulary
from disa.errors import DisaError
from disa.running.files import prepare_folder, write_json
from disa.running.terminal import counted, say

if TYPE_CHECKING:
    from disa.data.vocabulary import Category, Vocabulary


@dataclass(frozen=True, kw_only=True)
class PrintVocabulary:
    """Print a vocabulary: what is prompted, thing or stuff where known, and identical prompts.

    Example: `disa vocabulary a847`
    """

    name: Annotated[
        Positional[str],
        arg(metavar="NAME", help=f"{', '.join(VOCABULARIES)}, or a file (classes.txt or JSON)."),
    ]
    # With all synonyms, whose embeddings are averaged: boat|ship.
    synonyms: bool = False
    # Print JSON, which can be changed and used as a file.
    json: bool = False

    def run(self) -> int:
        """Print it. Raises `DisaError` for an unknown name and a file that is none."""
        import json

        vocabulary = load_vocabulary(self.name)
        if self.json:
            data = _as_json(vocabulary, self.synonyms)
            say(*json.dumps(data, indent=1, ensure_ascii=False).split("\n"))
        else:
            _print(vocabulary, self.synonyms)
        return 0


@dataclass(frozen=True, kw_only=True)
class DrawPicturebook:
    """Draw scenes of the world in which the bundled model lives.

    Example: `disa picturebook scenes --count 6 --size 384`, then
    `disa segment scenes --labels "house, sea" --out results --model mini`
    """

    # Folder for the pictures; made if need be.
    out: Annotated[Positional[Path], arg(metavar="OUT")]
    # Number of scenes.
    count: int = 10
    # Pixels per side, 8 to 4096; the scenes are the same at any size.
    size: int = 96
    # Which world: 1 is trained on, 2 is the benchmark.
    seed: int = 2
    # Write label maps to OUT/masks and captions to OUT/scenes.json, too.
    masks: bool = False

    def run(self) -> int:
        """Draw. Raises `DisaError` for a size that cannot be drawn and a folder not writable."""
        from disa.data.images import write_png
        from disa.picturebook import LARGEST, NOUNS, SMALLEST, render

        if not SMALLEST <= self.size <= LARGEST:
            raise DisaError(f"--size {self.size}: choose {SMALLEST} to {LARGEST} pixels")
        if self.count < 1:
            raise DisaError(f"--count {self.count}: draw at least one scene")
        prepare_folder(self.out)
        if self.masks:
            prepare_folder(self.out / "masks")
        captions = {}
        with counted("drawing") as report:
            for index in range(self.count):
                scene = render(self.seed, index, self.size)
                name = f"scene-{index:04d}.png"
                write_png(self.out / name, scene.image)
                if self.masks:
                    write_png(self.out / "masks" / name, scene.labels)
                captions[name] = {"caption": scene.caption, "words": scene.nouns}
                report(index + 1, self.count)
        if self.masks:
            facts = {"seed": self.seed, "words": NOUNS, "scenes": captions}
            write_json(self.out / "scenes.json", facts)
        drawn = "1 scene is" if self.count == 1 else f"{self.count} scenes are"
        masks = f", masks in {self.out / 'masks'}" if self.masks else ""
        say(f"{drawn} in {self.out}{masks}")
        return 0


def _print(vocabulary: "Vocabulary", synonyms: bool) -> None:
    """Print the prompts, what each counts as, and which of them a model cannot tell apart."""
    prompts = vocabulary.prompts(synonyms)
    width = min(60, max(map(len, prompts)))
    for index, (prompt, category) in enumerate(zip(prompts, vocabulary.prompted, strict=True)):
        # A prompt that counts as another category shows which: `bag` is background in PAS-20b.
        scored = vocabulary.categories[vocabulary.scored[index]]
        note = (category.kind or "") if scored == category else f"counts as {scored.name}"
        say(f"{index:>4}  {prompt:{width}}  {note}".rstrip())
    say(f"{len(prompts):,} prompts, {len(vocabulary.categories):,} categories scored")
    for group in vocabulary.identical(synonyms):
        say(f'identical prompts: "{prompts[group[0]]}" at {", ".join(map(str, group))}')


def _as_json(vocabulary: "Vocabulary", synonyms: bool) -> dict[str, Any]:
    """Return a vocabulary as data that `load_vocabulary` reads back from a file."""
    return {
        "name": vocabulary.name,
        "categories": [_entry(category) for category in vocabulary.categories],
        "prompts": vocabulary.prompts(synonyms),
        "scored": vocabulary.scored,
        "identical": vocabulary.identical(synonyms),
    }


def _entry(category: "Category") -> dict[str, Any]:
    known = {"synonyms": list(category.synonyms), "kind": category.kind, "id": category.source_id}
    return {"name": category.name} | {
        key: value for key, value in known.items() if value not in (None, [])
    }
