"""Videos: frames come and go one by one, so a long film takes no more memory than a short one.

A video gives NAME_labels.mkv (lossless, a frame's grey values are the indices of its label map),
NAME_overlay.mp4 (to look at, with the sound) and NAME.jsonl, a line for each frame that the model
saw. PyAV reads and writes them; it is an extra (decision D156).
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from disa.data.masks import ignored_value
from disa.errors import DisaError, one_line
from disa.inference.overlay import index_values, tinted
from disa.inference.request import Excerpt, Query
from disa.inference.segmentation import Segmentation
from disa.inference.segmenter import Segmenter
from disa.running.drafts import draft
from disa.running.extras import imported
from disa.running.terminal import warn

# What an MP4 may hold; films with other sound give a Matroska file.
MP4_SOUND = {"aac", "mp3", "ac3", "eac3", "opus", "alac"}
QUALITY = "18"  # of H.264: nobody sees the loss
MOST_PIXELS = 50_000_000  # of a frame: more than any camera films

Pixels = NDArray[np.uint8]


class Frame(NamedTuple):
    """A frame of a video, upright."""

    pixels: Pixels
    seconds: float  # from the start of the video
    stamp: int  # the same in units of the stream's time base


def segment_video(
    segmenter: Segmenter,
    source: str,
    query: Query,
    excerpt: Excerpt,
    target: Path,
    overlay: bool,
    go_on: Callable[[], bool],
) -> Iterator[tuple[int, int | None]]:
    """Segment a video; yield the number of frames that are done, and of all if that is known.

    source: a file, an address such as rtsp://..., or a camera such as /dev/video0. target: OUT/NAME
    without an end. After each frame `go_on` is asked; where it says no, the results hold what was
    done. Raises `DisaError` for what is no video, for a disk that refuses, and without PyAV.
    """
    av = imported("a video", "video", "av")
    # With a level, the decoder's threads wait for Python's lock to log an error, and whoever ends
    # them holds it and waits for them: a damaged film would hang for ever.
    av.logging.set_level(None)
    try:
        with ExitStack() as stack:
            video = _Video(stack.enter_context(_opened(av, source)), source)
            if overlay and video.has_unknown_sound:
                warn(f"note: {source}: sound whose codec PyAV does not know is left out")
            writer = _Writer(av, stack, video, target, query, overlay)
            smoothing = Smoothing(excerpt.smooth, query)
            result = None
            number = 0
            for frame in video.frames(excerpt, writer.sound):
                if result is None or number % excerpt.every == 0:
                    result = smoothing(segmenter(frame.pixels, smoothing.query))
                    writer.line(number, frame, result)
                writer.frame(frame, result)
                number += 1
                yield number, video.expected(excerpt)
                if not go_on():
                    break
            if number == 0:
                raise DisaError(
                    f"{source}: has no frame from {excerpt.start:g} s on; choose an earlier --from"
                )
            writer.finish()
    except av.FFmpegError as error:
        raise DisaError(f"{source}: {one_line(error)}; is it a video, and whole?") from None


@contextmanager
def _opened(av: Any, source: str) -> Iterator[Any]:
    is_camera = source.startswith("/dev/")
    try:
        container = av.open(source, format="v4l2" if is_camera else None, timeout=(10.0, 10.0))
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DisaError(f"{source}: cannot be opened as a video ({one_line(error)})") from None
    with container:
        yield container


class _Video:
    """What is read: frames, and the packets of the sound between them."""

    def __init__(self, container: Any, source: str) -> None:
        if not container.streams.video:
            raise DisaError(f"{source}: holds no pictures, only sound")
        self.container = container
        self.stream = container.streams.video[0]
        if self.stream.codec_context is None:
            raise DisaError(
                f"{source}: PyAV does not know the codec of its pictures; convert it first, to "
                "H.264 for example"
            )
        self.stream.thread_type = "AUTO"
        if self.stream.width * self.stream.height > MOST_PIXELS:
            raise DisaError(
                f"{source}: frames of {self.stream.width} x {self.stream.height} pixels are more "
                f"than {MOST_PIXELS:,}; make them smaller first"
            )
        # Telephones add sound in codecs of their own beside the usual one.
        audio = container.streams.audio
        self.sounds = [each for each in audio if each.codec_context is not None]
        self.has_unknown_sound = len(self.sounds) < len(audio)
        self.rate = self.stream.average_rate or self.stream.base_rate or Fraction(25)

    def expected(self, excerpt: Excerpt) -> int | None:
        """Return about how many frames there are; None if nobody knows, as of a camera."""
        if self.container.duration is None:
            return None
        end = self.container.duration / 1e6
        if excerpt.end is not None:
            end = min(end, excerpt.end)
        return max(1, round((end - excerpt.start) * float(self.rate)))

    def frames(self, excerpt: Excerpt, sound: Callable[[Any, float], None]) -> Iterator[Frame]:
        """Yield the frames of the excerpt; `sound` gets its packets, and the first second.

        No packet comes before the first frame: only then the form of the pictures is known.
        """
        zero = (self.container.start_time or 0) / 1e6
        # Sound may begin a little before the pictures.
        start = excerpt.start or float("-inf")
        end = float("inf") if excerpt.end is None else excerpt.end
        if excerpt.start:
            # To the last frame before it that needs no other one.
            self.container.seek(round((zero + excerpt.start) * 1e6))
        first = None
        sounds: list[Any] = []
        for packet in self.container.demux(self.stream, *self.sounds):
            if packet.stream.type == "audio":
                sounds.append(packet)
            else:
                for frame in packet.decode():
                    seconds = frame.time - zero
                    if seconds >= end:
                        return
                    if seconds >= start:
                        first = seconds if first is None else first
                        stamp = round((seconds - first) / frame.time_base)
                        yield Frame(_upright(frame), seconds, stamp)
            if first is not None:
                for each in sounds:
                    # The last packet of a stream is empty.
                    if each.dts is not None and start <= _seconds(each) - zero < end:
                        sound(each, zero + first)
                sounds = []


def _seconds(packet: Any) -> float:
    return float(packet.pts * packet.time_base)


def _upright(frame: Any) -> Pixels:
    """Return the pixels as players show them: telephones film sideways and say so."""
    pixels = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90) % 4))


class Smoothing:
    """Mixes the probabilities of a frame with those of the frames before (exponentially)."""

    def __init__(self, share: float, query: Query) -> None:
        self.share = share
        self.query = query._replace(scores=True) if share else query
        self.scores: NDArray[np.float32] | None = None

    def __call__(self, result: Segmentation) -> Segmentation:
        """Return a frame's result after mixing; `result.scores` must be there."""
        if not self.share:
            return result
        scores = result.scores
        assert scores is not None
        # Another size begins anew, as of a camera that was turned.
        if self.scores is not None and self.scores.shape == scores.shape:
            scores = (self.share * self.scores + (1 - self.share) * scores).astype(np.float32)
        self.scores = scores
        labels = scores.argmax(0).astype(result.labels.dtype)
        confidence = scores.max(0)
        if isinstance(self.query.background, float):
            labels[confidence < self.query.background] = -1
        return replace(result, labels=labels, confidence=confidence)


class _Writer:
    """Fills the three files, which appear when all of them are whole."""

    def __init__(
        self, av: Any, stack: ExitStack, video: _Video, target: Path, query: Query, overlay: bool
    ) -> None:
        self.av = av
        self.stack = stack
        self.video = video
        self.words = query.labels
        self.finals: list[tuple[Path, Path]] = []
        # 255 is background, so more labels need 16 bits.
        self.grey = "gray" if ignored_value(len(query.labels)) == 255 else "gray16le"

        self.lines = self._part(target.with_name(f"{target.name}.jsonl")).open("w", encoding="utf8")
        stack.enter_context(self.lines)
        self.maps = self._container(target.with_name(f"{target.name}_labels.mkv"))
        self.map_stream: Any = None
        self.shown: Any = None
        self.shown_stream: Any = None
        self.sounds: dict[int, Any] = {}
        if overlay:
            codecs = {sound.codec_context.name for sound in video.sounds}
            end = "mp4" if codecs <= MP4_SOUND else "mkv"
            self.shown = self._container(target.with_name(f"{target.name}_overlay.{end}"))
            self.shown_stream = self.shown.add_stream(
                "libx264", rate=video.rate, options={"crf": QUALITY}
            )
            for sound in video.sounds:
                self.sounds[sound.index] = self.shown.add_stream_from_template(sound)

    def _part(self, path: Path) -> Path:
        part = self.stack.enter_context(draft(path))
        self.finals.append((part, path))
        return part

    def _container(self, path: Path) -> Any:
        return self.stack.enter_context(self.av.open(str(self._part(path)), "w"))

    def line(self, number: int, frame: Frame, result: Segmentation) -> None:
        """Write what a frame holds as a line of JSON."""
        facts = {
            "frame": number,
            "seconds": round(frame.seconds, 3),
            "areas": result.areas,
            "mean_scores": result.mean_scores,
        }
        self.lines.write(json.dumps(facts, ensure_ascii=False) + "\n")

    def frame(self, frame: Frame, result: Segmentation) -> None:
        """Write a frame of both videos."""
        values = index_values(result.labels, len(self.words))
        if self.map_stream is None:
            self.map_stream = self.maps.add_stream("ffv1", rate=self.video.rate)
            _set_form(self.map_stream, values.shape, self.grey, self.video.stream.time_base)
            if self.shown is not None:
                form = (even(values.shape[0]), even(values.shape[1]))
                _set_form(self.shown_stream, form, "yuv420p", self.video.stream.time_base)
        self._write(self.maps, self.map_stream, values, self.grey, frame.stamp)
        if self.shown is not None:
            picture = np.asarray(tinted(Image.fromarray(frame.pixels), result.labels, self.words))
            # H.264 halves the resolution of colours, so its sides are even.
            rows = even(picture.shape[0]) - picture.shape[0]
            columns = even(picture.shape[1]) - picture.shape[1]
            picture = np.pad(picture, ((0, rows), (0, columns), (0, 0)), mode="edge")
            self._write(self.shown, self.shown_stream, picture, "rgb24", frame.stamp)

    def _write(self, container: Any, stream: Any, pixels: Any, form: str, stamp: int) -> None:
        frame = self.av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=form)
        frame.pts = stamp
        frame.time_base = self.video.stream.time_base
        container.mux(stream.encode(frame))

    def sound(self, packet: Any, begin: float) -> None:
        """Copy a packet of sound as it is; the second `begin` of the film becomes the first."""
        if packet.stream.index not in self.sounds:
            return
        shift = round(begin / packet.time_base)
        packet.pts -= shift
        packet.dts -= shift
        packet.stream = self.sounds[packet.stream.index]
        self.shown.mux(packet)

    def finish(self) -> None:
        """Write what encoders hold back, and let the files appear."""
        self.maps.mux(self.map_stream.encode())
        self.maps.close()
        if self.shown is not None:
            self.shown.mux(self.shown_stream.encode())
            self.shown.close()
        self.lines.close()
        for part, path in self.finals:
            part.replace(path)


def even(side: int) -> int:
    """Return the next even number."""
    return side + side % 2


def _set_form(stream: Any, shape: tuple[int, ...], form: str, time_base: Fraction) -> None:
    stream.height, stream.width = shape[:2]
    stream.pix_fmt = form
    stream.codec_context.time_base = time_base
