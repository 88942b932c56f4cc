"""The routes of the server: what can be asked, and how it is described."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from disa.serving import problems
from disa.serving.answers import Ask, Format
from disa.serving.guard import Access, Guard
from disa.serving.pages import page, policy, reference
from disa.serving.problems import Problem
from disa.serving.service import Service
from disa.serving.sessions import Kept
from disa.serving.telemetry import Telemetry
from disa.version import __version__

SWEEP_SECONDS = 30  # between two looks for pictures that nobody asks any more
DESCRIPTION = (
    "Pictures and labels in, masks out. Upload a picture once and ask it for labels as often as "
    "you like, or do both in one request. Every refusal is application/problem+json."
)
# Of uploads: a file as it is, and no form (decision D149).
BODY = {
    "requestBody": {
        "required": True,
        "description": "The bytes of the picture's file, as they are.",
        "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
    }
}
FORMATS = (
    "json: areas, scores, matches; labels: PNG of label indices; overlay: PNG to look at; coco"
)
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The segmentation in the format that was asked for.",
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "image/png": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": {
        "description": "A refusal (RFC 9457): `detail` says what is wrong, and the remedy.",
        "content": {
            problems.MEDIA_TYPE: {
                "schema": {"type": "object", "required": ["type", "title", "status", "detail"]}
            }
        },
    }
}
Wanted = Annotated[Format, Query(description=FORMATS)]
Name = Annotated[str | None, Query(max_length=255, description="What answers call the picture.")]
LongSide = Annotated[
    int | None, Query(ge=16, description="Shrink a larger picture to so many pixels first.")
]
SessionId = Annotated[str, Path(max_length=64, description="What the upload called it.")]


def serve_app(service: Service, access: Access) -> ASGIApp:
    """Return the whole server: routes, guard, and what operators see."""
    app: ASGIApp = Guard(_routes(service), access, service.limits)
    if access.origins:
        app = CORSMiddleware(
            app,
            allow_origins=access.origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["Retry-After"],
        )
    return Telemetry(app, service.metrics)


def _routes(service: Service) -> FastAPI:
    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(_sweep(service))
        yield
        sweeping.cancel()
        with suppress(asyncio.CancelledError):
            await sweeping
        service.close()

    app = FastAPI(
        title="disa",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        responses=REFUSALS,
        lifespan=running,
    )
    problems.install(app)
    _add_pages(app, service)
    _add_watching(app, service)
    _add_sessions(app, service)

    @app.post("/segment", responses=ANSWERS, openapi_extra=BODY, response_model=None)
    async def segment(
        request: Request,
        labels: Annotated[str, Query(description='"boat|ship, sea"; | stands between synonyms.')],
        background: Annotated[str | None, Query(description="As in a session's request.")] = None,
        format: Wanted = "json",
        name: Name = None,
        long_side: LongSide = None,
    ) -> Response:
        """Segment a picture that is not kept: the body is its file, labels are in the address."""
        ask = Ask(labels=labels, background=background, gate=None, maps=False)

        async def work(content: bytes) -> Response:
            kept = await service.open(content, name, long_side)
            return await service.answer(kept.opened, ask, format, kept.notes)

        return await service.attend(request, work)

    return app


def _add_sessions(app: FastAPI, service: Service) -> None:
    @app.post("/sessions", status_code=201, openapi_extra=BODY)
    async def upload(request: Request, name: Name = None, long_side: LongSide = None) -> Any:
        """Upload a picture; its id asks it for labels until it is dropped."""

        async def work(content: bytes) -> Response:
            kept = await service.open(content, name, long_side)
            service.sessions.add(kept)
            return JSONResponse(_described(kept, service), 201)

        return await service.attend(request, work)

    @app.get("/sessions/{id}")
    async def describe(id: SessionId) -> dict[str, Any]:
        """Say whether a picture is still there, and how large it is."""
        return _described(service.sessions.get(id), service)

    @app.get("/sessions/{id}/picture", responses=ANSWERS, response_model=None)
    async def picture(id: SessionId) -> Response:
        """Return the picture as the model saw it, as PNG: upright, and in sRGB."""
        kept = service.sessions.get(id)
        with service.places.place():
            return await service.picture(kept)

    @app.post("/sessions/{id}/segment", responses=ANSWERS, response_model=None)
    async def ask(request: Request, id: SessionId, ask: Ask, format: Wanted = "json") -> Response:
        """Segment an uploaded picture by labels."""
        kept = service.sessions.get(id)
        return await service.attend(request, lambda _: service.answer(kept.opened, ask, format))

    @app.delete("/sessions/{id}", status_code=204)
    async def forget(id: SessionId) -> None:
        """Forget a picture now."""
        service.sessions.remove(id)


def _add_pages(app: FastAPI, service: Service) -> None:
    def html(content: str) -> HTMLResponse:
        return HTMLResponse(content, headers={"content-security-policy": policy(content)})

    @app.get("/", include_in_schema=False)
    async def show_page() -> HTMLResponse:
        return html(page())

    @app.get("/docs", include_in_schema=False)
    async def show_reference() -> HTMLResponse:
        return html(reference(app.openapi()))

    @app.get("/model")
    async def model() -> dict[str, Any]:
        """Say which model answers, what it knows, and how much it takes."""
        return service.about()

    @app.get("/samples")
    async def samples() -> list[dict[str, Any]]:
        """List drawings to try the model with."""
        return await service.samples()

    @app.get("/samples/{number}", responses=ANSWERS, response_model=None)
    async def sample(number: int) -> Response:
        """Return one of these drawings, as PNG."""
        return await service.sample(number)


def _add_watching(app: FastAPI, service: Service) -> None:
    @app.get("/health")
    async def health() -> dict[str, str]:
        """Say that the server runs."""
        return {"status": "ok"}

    @app.get("/ready")
    async def ready() -> dict[str, str]:
        """Say whether another request would find a place; 503 if not."""
        if not service.is_ready:
            raise Problem(503, "all places are taken; try again", {"Retry-After": "1"})
        return {"status": "ready"}

    @app.get("/metrics", response_model=None)
    async def metrics() -> Response:
        """Return counts and times for Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _described(kept: Kept, service: Service) -> dict[str, Any]:
    height, width, _ = kept.opened.picture.shape
    return {
        "id": kept.id,
        "name": kept.opened.source,
        "width": width,
        "height": height,
        "notes": kept.notes,
        "expires_in": service.limits.session_seconds,
    }


async def _sweep(service: Service) -> None:
    """Drop old pictures while nobody asks for any."""
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        service.sessions.drop_old()
