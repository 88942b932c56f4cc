"""What the server does for its routes: pictures become sessions, labels become segmentations."""

import asyncio
import io
import sys
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import PurePath
from typing import Any

import numpy as np
from PIL import Image
from starlette.requests import Request
from starlette.responses import Response

from disa.data.images import Picture, Reading, read_picture
from disa.data.picture_files import opened
from disa.data.tiff import needs_bands
from disa.errors import memory_errors_as
from disa.inference.appearance import doubts
from disa.inference.familiar import FAMILIAR, familiarity, untaught
from disa.inference.protocol import Protocol
from disa.inference.request import WHOLE, Query
from disa.inference.segmentation import Segmentation
from disa.inference.segmenter import Segmenter, Session
from disa.picturebook import SIZE, TEST_SEED, Scene, render
from disa.serving.answers import Ask, Format, as_response, png_response, query_of
from disa.serving.limits import Limits
from disa.serving.problems import CLIENT_LEFT, Problem
from disa.serving.queue import Places, Worker
from disa.serving.sessions import Kept, Sessions
from disa.serving.telemetry import Metrics

THREADS = 4  # that decode pictures and write answers, beside the model's own
SAMPLES = (53, 41, 2, 49, 44, 14)  # scenes of the test world
SAMPLE_SIDE = 384  # pixels
LESS_MEMORY = "the server has too little memory; use a smaller picture or fewer labels"


@dataclass(frozen=True)
class Settings:
    """What the model is called and knows, and how it is shown pictures."""

    model: str  # its name, or the last part of its path
    knows: str = ""  # in a few words
    is_bundled: bool = False  # it knows the drawn world alone
    protocol: Protocol = WHOLE
    templates: tuple[str, ...] | None = None  # None: the model's own


class Service:
    """A model with its queue and its sessions. Coroutines run in one event loop."""

    def __init__(self, segmenter: Segmenter, settings: Settings, limits: Limits) -> None:
        self.segmenter = segmenter
        self.settings = settings
        self.limits = limits
        self.sessions = Sessions(limits)
        self.places = Places(limits.queue)
        self.metrics = Metrics()
        self.worker = Worker(self.metrics.batches.observe)
        self._pool = ThreadPoolExecutor(THREADS, "pictures")
        self._show_numbers()

    def close(self) -> None:
        """Finish what is there, and end the threads."""
        self.worker.close()
        self._pool.shutdown()

    @property
    def is_ready(self) -> bool:
        """Whether another request would find a place."""
        return self.places.taken < self.places.limit

    def about(self) -> dict[str, Any]:
        """Return what a client should know of the model and the limits."""
        config = self.segmenter.model.config
        return {
            "model": self.settings.model,
            "knows": self.settings.knows,
            "saliency": bool(getattr(config, "disentangle", False)),
            "foreground": bool(getattr(config, "things", False)),
            "protocol": self.settings.protocol.name,
            "limits": vars(self.limits),
        }

    async def attend(
        self, request: Request, work: Callable[[bytes], Coroutine[Any, Any, Response]]
    ) -> Response:
        """Take a place and return what `work` gives for the request's body.

        Raises `Problem` if no place is free and if it takes too long.
        """
        with self.places.place():
            return await self._unless_left(request, work(await request.body()))

    async def _unless_left(self, request: Request, work: Coroutine[Any, Any, Response]) -> Response:
        """Return what `work` gives. Raises `Problem` if it takes too long."""
        task = asyncio.ensure_future(work)
        leaving = asyncio.ensure_future(_left(request))
        await asyncio.wait(
            {task, leaving}, timeout=self.limits.timeout, return_when=asyncio.FIRST_COMPLETED
        )
        has_left = leaving.done()
        leaving.cancel()
        if task.done():
            return task.result()
        task.cancel()
        if has_left:
            return Response(status_code=CLIENT_LEFT)
        raise Problem(
            503,
            f"no answer within {self.limits.timeout} s; try again, with a smaller picture or fewer "
            "labels",
            {"Retry-After": str(self.limits.timeout)},
        )

    async def open(self, content: bytes, name: str | None, long_side: int | None) -> Kept:
        """Decode a picture and let the model look at it. Raises `Problem` and `DisaError`."""
        picture = await self._in_pool(self._decode, content, long_side)
        layout = self.segmenter.layout(self.settings.protocol, picture.pixels)
        session = await self.worker.do(self._look, layout, picture.pixels)
        notes = picture.notes
        if self.settings.is_bundled:
            sure = await self.worker.do(self._judge, None, picture.pixels)
            if sure < FAMILIAR:
                notes = (
                    *notes,
                    f"this picture looks unlike the drawings that {self.settings.model} knows, so "
                    "its answers mean little; photographs need another model",
                )
        session.source = name and PurePath(name).name
        return Kept(session, notes)

    async def answer(
        self, session: Session, ask: Ask, format: Format, notes: Sequence[str] = ()
    ) -> Response:
        """Segment an opened picture; what is odd about the labels follows the notes.

        Raises `Problem` and `DisaError`.
        """
        settings = self.settings
        parsed = partial(query_of, ask, self.limits, settings.protocol, settings.templates)
        query = await self._in_pool(parsed)
        key = (session.layout, query)
        result: Segmentation = await self.worker.do(self._answer, key, (session, query))
        notes = [*notes, *self._notes(query)]
        return await self._in_pool(as_response, result, format, ask.maps, notes)

    async def sample(self, number: int) -> Response:
        """Return one of the sample drawings. Raises `Problem` for another number."""
        if number not in range(len(SAMPLES)):
            raise Problem(404, f"there is no sample {number}; use 0 to {len(SAMPLES) - 1}")
        scene = await self._in_pool(_drawn, number, SAMPLE_SIDE)
        # The same number is the same drawing for ever.
        headers = {"cache-control": "max-age=86400"}
        return png_response(Image.fromarray(scene.image), headers)

    async def samples(self) -> list[dict[str, Any]]:
        """Return what the sample drawings show."""
        # Small ones say the same and are drawn at once.
        scenes = [await self._in_pool(_drawn, number, SIZE) for number in range(len(SAMPLES))]
        return [
            {"url": f"samples/{number}", "caption": scene.caption, "nouns": scene.nouns}
            for number, scene in enumerate(scenes)
        ]

    async def picture(self, kept: Kept) -> Response:
        """Return a picture as the model saw it: upright, in sRGB."""
        return await self._in_pool(png_response, Image.fromarray(kept.opened.picture))

    async def _in_pool(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)

    def _decode(self, content: bytes, long_side: int | None) -> Picture:
        if not content:
            raise Problem(422, "the body is empty; send the bytes of a picture's file")
        self._check_pixels(content)
        reading = Reading(self.limits.max_pixels)
        with memory_errors_as(LESS_MEMORY):
            picture = read_picture(io.BytesIO(content), reading)
        height, width, _ = picture.pixels.shape
        if long_side is None or max(height, width) <= long_side:
            return picture
        small = Image.fromarray(picture.pixels)
        small.thumbnail((long_side, long_side), Image.Resampling.LANCZOS)
        note = f"shrunk from {width} x {height} pixels to {small.width} x {small.height}"
        return Picture(np.asarray(small), picture.is_turned, (*picture.notes, note))

    def _check_pixels(self, content: bytes) -> None:
        """Refuse by the header what is too large, in words that suit a client."""
        most = self.limits.max_pixels
        if needs_bands(io.BytesIO(content), "the picture", None):
            return  # their reader checks it itself
        with opened(io.BytesIO(content), sys.maxsize, load=False) as image:
            width, height = image.size
        if width * height > most:
            raise Problem(
                413,
                f"{width} x {height} pixels are more than {most:,}; shrink the picture",
            )

    def _look(self, pictures: Sequence[Any]) -> Sequence[Session]:
        with memory_errors_as(LESS_MEMORY):
            sessions: list[Session] = self.segmenter.open(
                list(pictures), protocol=self.settings.protocol
            )
            return sessions

    def _answer(self, asked: Sequence[tuple[Session, Query]]) -> Sequence[Segmentation]:
        with memory_errors_as(LESS_MEMORY):
            return self.segmenter.ask([session for session, _ in asked], asked[0][1])

    def _judge(self, pictures: Sequence[Any]) -> Sequence[float]:
        return [familiarity(self.segmenter, picture) for picture in pictures]

    def _notes(self, query: Query) -> list[str]:
        """Return what is odd about labels."""
        notes = list(doubts(query.all_labels))
        if self.settings.is_bundled:
            notes += untaught(self.settings.model, query.all_labels)
        return notes

    def _show_numbers(self) -> None:
        show = self.metrics.show
        show("disa_sessions", "Pictures kept.", lambda: len(self.sessions))
        show("disa_session_bytes", "Memory of pictures kept.", lambda: self.sessions.nbytes)
        show("disa_requests_taken", "Requests at work or waiting.", lambda: self.places.taken)
        for reason, meaning in (("age", "after their time"), ("room", "for others")):
            show(
                f"disa_sessions_dropped_{reason}",
                f"Pictures dropped {meaning}.",
                partial(self.sessions.dropped.__getitem__, reason),
            )


@lru_cache(2 * len(SAMPLES))
def _drawn(number: int, side: int) -> Scene:
    return render(TEST_SEED, SAMPLES[number], side)


async def _left(request: Request) -> None:
    """Return when the client closes its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
