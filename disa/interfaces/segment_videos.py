"""`disa segment` with videos in place of pictures."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from disa.errors import DisaError
from disa.inference.request import Query
from disa.running.files import prepare_folder
from disa.running.interruption import INTERRUPTED, Interruption
from disa.running.terminal import counted, say, warn

if TYPE_CHECKING:
    from disa.interfaces.segment_command import Segment

SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".webm", ".wmv")
SOURCES = ("rtsp://", "rtmp://", "srt://", "udp://", "/dev/video")
# Options that mean something to pictures alone.
OF_PICTURES = (
    "recursive",
    "bands",
    "stretch",
    "saliency",
    "beside",
    "grey",
    "format",
    "skip_existing",
)


def is_video(name: str) -> bool:
    """Tell whether an argument names a video: by its suffix, an address of a stream, a camera."""
    return name.lower().endswith(SUFFIXES) or name.lower().startswith(SOURCES)


def segment_videos(command: "Segment", queries: Mapping[str, Query]) -> int:
    """Segment every video, and return the exit code. Raises `DisaError`."""
    names = _check(command, queries)
    excerpt = command.excerpt
    (query,) = queries.values()
    excerpt.check(query)
    prepare_folder(command.out)

    # Only now, because this import takes seconds.
    from disa.inference.segmenter import load
    from disa.inference.video import segment_video
    from disa.interfaces.segment_notes import introduce
    from disa.running.devices import DTYPES
    from disa.running.processes import join

    with join() as processes, Interruption() as interruption:
        segmenter = load(command.model, processes.device(command.device), DTYPES[command.dtype])
        segmenter.embed(query)
        if processes.rank == 0:
            introduce(command.model, queries.values(), command.overlay)
        own = list(names.items())[processes.rank :: processes.count]
        for name, source in own:
            target = command.out / name
            with counted(name, processes.rank == 0) as report:
                frames = 0
                for frames, expected in segment_video(
                    segmenter,
                    source,
                    query,
                    excerpt,
                    target,
                    command.overlay,
                    lambda: not interruption.asked,
                ):
                    report(frames, max(frames, expected or 0))
            if interruption.asked:
                warn(f"interrupted: {target}_* hold the first {frames:,} frames of {source}")
                return INTERRUPTED
            say(f"{source}: {frames:,} frames, in {target}_*")
    return 0


def _check(command: "Segment", queries: Mapping[str, Query]) -> dict[str, str]:
    """Return the videos by the names of their results. Raises `DisaError` for what cannot be."""
    pictures = [name for name in command.images if not is_video(name)]
    if pictures:
        raise DisaError(
            f"{pictures[0]}: is no video; segment pictures and videos one after another"
        )
    defaults = {field.name: field.default for field in fields(command)}
    for option in OF_PICTURES:
        if getattr(command, option) != defaults[option]:
            raise DisaError(f"--{option.replace('_', '-')} is for pictures, not for videos")
    if command.request.scores or len(queries) > 1:
        raise DisaError("a video is segmented by one set of labels, and without --scores")

    names: dict[str, str] = {}
    for source in command.images:
        path = Path(source)
        if not source.lower().startswith(SOURCES):
            if not path.is_file():
                raise DisaError(f"{source}: no such file")
            if path.resolve().parent == command.out.resolve():
                raise DisaError(f"{command.out}: holds the videos; choose another folder")
        name = path.stem or "camera"
        if name in names:
            raise DisaError(
                f"{source} and {names[name]}: have the same name; segment them into two folders"
            )
        names[name] = source
    return names
