"""What `disa segment` says beside its results: of the model, the labels and the names."""

from collections.abc import Iterable, Sequence

from disa.data.images import Reading, read_picture
from disa.data.picture_paths import STDIN
from disa.errors import DisaError
from disa.inference.appearance import doubts
from disa.inference.familiar import FAMILIAR, familiarity, untaught
from disa.inference.request import Job, Query
from disa.inference.segmenter import Segmenter
from disa.running.terminal import say, warn
from disa.weights.names import BUNDLED, knowledge

NOTES_SHOWN = 20
PICTURES_JUDGED = 8  # before the first is segmented
FOR_PHOTOGRAPHS = "for photographs: disa segment ... --model cat-seg-b --protocol cat-seg"


def introduce(model: str, queries: Iterable[Query], overlay: bool) -> None:
    """Say which model runs and what it knows, and what is odd about the labels.

    `overlay`: they are going to be drawn.
    """
    known = knowledge(model)
    say(f"model {model}{': ' if known else ''}{known}")
    for query in queries:
        for line in untaught(model, query.all_labels) if model in BUNDLED else ():
            warn(f"note: {line}; {FOR_PHOTOGRAPHS}")
        if len(query.labels) == 1 and query.background is None:
            warn(
                f"note: {query.labels[0]} is the only label, so every pixel is it; "
                "--background 0.3 leaves out what is unlikely to be"
            )
        show_notes([*doubts(query.all_labels), *(_ill_drawn(query.labels) if overlay else ())])


def judge_pictures(segmenter: Segmenter, model: str, jobs: Sequence[Job], reading: Reading) -> None:
    """Say so if half of some pictures are unlike the drawings that a bundled model knows."""
    if model not in BUNDLED:
        return
    files = [job.file for job in jobs if job.file != STDIN]  # it can be read only once
    step = max(1, len(files) // PICTURES_JUDGED)
    judged = []
    for file in files[::step][:PICTURES_JUDGED]:
        try:
            judged.append(familiarity(segmenter, read_picture(file, reading).pixels))
        except DisaError:
            continue  # it is reported when its turn comes
    unlike = [sure for sure in judged if sure < FAMILIAR]
    if judged and len(unlike) >= len(judged) / 2:
        plural = "s that were" if len(judged) > 1 else " that was"
        warn(
            f"note: {len(unlike)} of {len(judged)} picture{plural} tried look unlike the drawings "
            f"that {model} knows; {FOR_PHOTOGRAPHS}"
        )


def show_notes(notes: Sequence[str]) -> None:
    """Print notes, not all of very many."""
    for note in notes[:NOTES_SHOWN]:
        warn(f"note: {note}")
    if len(notes) > NOTES_SHOWN:
        warn(f"note: and {len(notes) - NOTES_SHOWN:,} more of these")


def renamed(jobs: Sequence[Job]) -> list[str]:
    """Return a note for each picture whose results are not called as itself."""
    # The name of a long file is shortened, to its first letters.
    return [
        f"{job.file}: its results are called {job.name}, since another picture's have its name"
        for job in jobs
        if job.file != STDIN and not job.file.stem.startswith(job.name)
    ]


def _ill_drawn(labels: Sequence[str]) -> list[str]:
    """Return notes on characters that the overlay draws as boxes, or out of shape and order."""
    from disa.inference.lettering import misdrawn, undrawn

    text = "".join(labels)
    notes = []
    if lacking := undrawn(text):
        notes.append(
            f"no font was found that draws {lacking[:NOTES_SHOWN]}: the overlay has boxes for it; "
            "install a font of that script (and fontconfig), such as Noto"
        )
    if unshaped := misdrawn(text):
        notes.append(
            f"Pillow has no raqm here, so the overlay draws {unshaped[:NOTES_SHOWN]} unshaped and "
            "from left to right; install libfribidi, or a Pillow with raqm"
        )
    return notes
