"""What to segment with: as a user writes it (`Request`), and parsed once (`Query`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from tyro.conf import UseAppendAction, arg

from disa.errors import DisaError
from disa.inference.labels import Background, check_templates, parse_background, parse_labels
from disa.inference.protocol import Protocol
from disa.running.files import MAX_PIXELS

if TYPE_CHECKING:  # it imports Pillow
    from disa.data.picture_files import Content

WHOLE = Protocol()


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to look for, and how pictures are shown to the model."""

    # What to look for, with commas between: "house, sea, grass". Synonyms: "boat|ship". Quotes
    # keep a comma: '"light, red", car'. Given several times, each picture is segmented by each
    # set, into OUT/labels-1, OUT/labels-2 ...
    labels: Annotated[UseAppendAction[tuple[str, ...]], arg(aliases=["-l"])] = ()
    # Labels by the name of their vocabulary (`a150`), or from a file (classes.txt or JSON).
    vocabulary: str | None = None
    # With --vocabulary: average the synonyms of each label, too.
    synonyms: bool = False
    # Which pixels get none of the labels: `none`; a number such as 0.3: those whose best score is
    # lower; `foreground`: those of no thing; or labels that compete with yours: "wall,
    # floor".
    background: str = "none"
    # Prompts in place of the model's own: "a picture of a {}", or the name of a published set:
    # `imagenet` (80 prompts, averaged), `imagenet-7`, `cat-seg`, `clip`.
    templates: Annotated[UseAppendAction[tuple[str, ...]], arg(aliases=["--template"])] = ()
    # `whole`: one view, its short side as the model's own; `windows`: sliding windows over the
    # picture at its own size, for large pictures; `cat-seg`: the baseline's published protocol.
    protocol: str = "whole"
    # Pixels of the picture's short side; more is finer and slower. Default: the protocol's own.
    size: int | None = None
    # Share of a window that the next one shows, too, with `--protocol windows`.
    overlap: float = 1 / 3
    # Of many labels, compute only so many: those that some token of the picture resembles most. The
    # others get no pixel. Default: all.
    gate: int | None = None
    # Write every label's score per pixel (.npz), too.
    scores: bool = False
    # Refuse files with more pixels than this: they would fill the memory.
    max_pixels: int = MAX_PIXELS

    def parse(self) -> "dict[str, Query]":
        """Return what this asks for: a query for each set of labels, by the folder of its results.

        A single set needs no folder of its own: "". Raises `DisaError` for labels or options that
        make no sense.
        """
        sets = self._label_sets()
        if len(sets) == 1:
            return {"": self._query(sets[0])}
        return {f"labels-{number}": self._query(each) for number, each in enumerate(sets, 1)}

    def _query(self, labels: Sequence[str] | str) -> "Query":
        return parse_query(
            labels,
            background=self.background,
            templates=self.templates or None,
            protocol=Protocol(self.protocol, self.size, self.overlap),
            gate=self.gate,
            scores=self.scores,
        )

    def _label_sets(self) -> Sequence[Sequence[str] | str]:
        from disa.data.vocabulary import load_vocabulary

        # A file of options may hold a single text.
        labels: object = self.labels
        sets = (labels,) if isinstance(labels, str) else self.labels
        if (not sets) == (self.vocabulary is None):
            raise DisaError(
                'give either --labels "house, sea" or --vocabulary a150 (or a file of classes)'
            )
        if self.vocabulary is not None:
            return (load_vocabulary(self.vocabulary).labels(self.synonyms),)
        if self.synonyms:
            raise DisaError(
                '--synonyms belongs to --vocabulary; among --labels write them as "boat|ship"'
            )
        return sets


@dataclass(frozen=True, kw_only=True)
class Excerpt:
    """Which frames of a video are segmented, and how."""

    # Segment every Nth frame of a video; those between have its labels.
    every: int = 1
    # Begin at this second of a video.
    start: Annotated[float, arg(aliases=["--from"])] = 0.0
    # End at this second of a video.
    end: Annotated[float | None, arg(aliases=["--to"])] = None
    # Mix the probabilities of a video's frame with those before, whose share this is: 0 to 0.95.
    # Labels flicker less, and follow later.
    smooth: float = 0.0

    def check(self, query: "Query") -> None:
        """Raise `DisaError` for numbers that make no sense."""
        if self.every < 1:
            raise DisaError(f"--every {self.every}: choose 1 (all frames) or more")
        if self.start < 0:
            raise DisaError(f"--from {self.start:g}: seconds from the start, 0 or more")
        if self.end is not None and self.end <= self.start:
            raise DisaError(f"--to {self.end:g}: choose more than --from, {self.start:g}")
        if not 0 <= self.smooth < 1:
            raise DisaError(f"--smooth {self.smooth:g}: choose 0 (none) to less than 1")
        if self.smooth and not (query.background is None or isinstance(query.background, float)):
            raise DisaError(
                "--smooth goes without --background, or with a threshold such as --background 0.3"
            )


class Job(NamedTuple):
    """A picture, and the name of its results."""

    file: Path
    name: str
    content: "Content | None" = None  # of a picture that is no file of this machine

    @property
    def source(self) -> str:
        """What NAME.json calls the picture."""
        return str(self.file) if self.content is None else self.content.name


class Query(NamedTuple):
    """A request that makes sense."""

    labels: tuple[str, ...]
    background: Background
    templates: tuple[str, ...] | None  # None: the model's own
    protocol: Protocol
    gate: int | None  # None: all labels
    scores: bool

    @property
    def all_labels(self) -> tuple[str, ...]:
        """The labels, and those that compete with them for the background."""
        others = self.background if isinstance(self.background, tuple) else ()
        return (*self.labels, *others)


def parse_query(
    labels: str | Sequence[str],
    *,
    background: int | float | str | Sequence[str] | None = None,
    templates: str | Sequence[str] | None = None,
    protocol: Protocol = WHOLE,
    gate: int | None = None,
    scores: bool = False,
) -> Query:
    """Parse what a call asks for.

    labels: "house, boat|ship, sea" or a list; `|` separates synonyms of one label.
    background: None, a threshold in 0..1, "foreground", or competing labels (`parse_background`).
    templates: prompts such as "a picture of a {}", or the name of a published set.
    gate: compute only so many labels, the likeliest of the picture (decision D110).
    scores: keep every label's probability per pixel.
    Raises `DisaError` for input that is none of these.
    """
    names = parse_labels(labels)
    check_gate(gate)
    return Query(
        labels=names,
        background=parse_background(background, names),
        templates=None if templates is None else check_templates(templates),
        protocol=protocol,
        gate=gate,
        scores=scores,
    )


def check_gate(gate: int | None) -> None:
    """Raise `DisaError` for a gate that lets no label through."""
    if gate is not None and gate < 1:
        raise DisaError(f"gate {gate}: let at least 1 label through, or leave it out")
