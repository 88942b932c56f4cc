"""`disa segment` with videos in place of pictures."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from disa.errors import DisaError
from disa.inference.request import Excerpt, Query
from disa.running.files import prepare_folder
from disa.running.interruption import INTERRUPTED, Interruption
from disa.running.terminal import counted, say, warn

if TYPE_CHECKING:  # it imports torch, which takes seconds
    from disa.inference.segmenter import Segmenter
    from disa.running.processes import Processes

SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".webm", ".wmv")
SOURCES = ("rtsp://", "rtmp://", "srt://", "udp://", "/dev/video")


def is_video(name: str) -> bool:
    """Tell whether an argument names a video: by its suffix, an address of a stream, a camera."""
    return name.lower().endswith(SUFFIXES) or name.lower().startswith(SOURCES)


def segment_videos(
    videos: Mapping[str, str],
    query: Query,
    excerpt: Excerpt,
    out: Path,
    overlay: bool,
    model: str,
    load: "Callable[[Processes], Segmenter]",
) -> int:
    """Segment videos, by the names of their results, with the model; return the exit code.

    Raises `DisaError`.
    """
    excerpt.check(query)
    prepare_folder(out)

    # Only now, because this import takes seconds.
    from disa.inference.video import segment_video
    from disa.interfaces.segment_notes import introduce
    from disa.running.processes import join

    with join() as processes, Interruption() as interruption:
        segmenter = load(processes)
        segmenter.embed(query)
        if processes.rank == 0:
            introduce(model, [query], overlay)
        own = list(videos.items())[processes.rank :: processes.count]
        for name, source in own:
            target = out / name
            done = segment_video(
                segmenter, source, query, excerpt, target, overlay, lambda: not interruption.asked
            )
            frames = 0
            with counted(name, processes.rank == 0) as report:
                for frames, expected in done:
                    report(frames, max(frames, expected or 0))
            if interruption.asked:
                warn(f"interrupted: {target}_* hold the first {frames:,} frames of {source}")
                return INTERRUPTED
            say(f"{source}: {frames:,} frames, in {target}_*")
    return 0


def named_videos(sources: Sequence[str], out: Path) -> dict[str, str]:
    """Return videos by the names of their results. Raises `DisaError` for what cannot be."""
    names: dict[str, str] = {}
    for source in sources:
        path = Path(source)
        if not is_video(source):
            raise DisaError(f"{source}: is no video; segment pictures and videos one after another")
        if not source.lower().startswith(SOURCES):
            if not path.is_file():
                raise DisaError(f"{source}: no such file")
            if path.resolve().parent == out.resolve():
                raise DisaError(f"{out}: holds the videos; choose another folder")
        name = path.stem or "camera"
        if name in names:
            raise DisaError(
                f"{source} and {names[name]}: have the same name; segment them into two folders"
            )
        names[name] = source
    return names
