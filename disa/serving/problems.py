"""Refusals as JSON (RFC 9457): what is wrong and how to mend it, and no path of the server."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from disa.errors import DisaError, one_line

MEDIA_TYPE = "application/problem+json"
CLIENT_LEFT = 499  # what proxies log for a client that did not wait
NO_SUCH_ADDRESS = "there is nothing at this address; docs lists what there is"
FAULT = "the server made a mistake, which its log describes; try again, or report it"


class Problem(HTTPException):
    """A request that is refused: a status, and what is wrong with its remedy in one line."""


def answer(error: HTTPException) -> Response:
    """Return a refusal as the client gets it."""
    title = HTTPStatus(error.status_code).phrase
    content = {
        "type": "about:blank",
        "title": title,
        "status": error.status_code,
        "detail": error.detail,
    }
    return JSONResponse(content, error.status_code, error.headers, MEDIA_TYPE)


def as_problem(error: DisaError) -> Problem:
    """Return a mistake in a client's picture or labels as a refusal."""
    # Pictures come as bytes, which the readers of files call by another name.
    return Problem(422, one_line(error).replace("the file object", "the picture"))


def install(app: FastAPI) -> None:
    """Let an app answer every error with a problem."""

    async def refused(request: Request, error: Any) -> Response:
        if not isinstance(error, Problem) and error.status_code == 404:
            return answer(Problem(404, NO_SUCH_ADDRESS))
        if not isinstance(error, Problem) and error.status_code == 405:
            allowed = (error.headers or {}).get("Allow", "another method")
            detail = f"{request.method} is not possible here; use {allowed}"
            return answer(Problem(405, detail, error.headers))
        return answer(error)

    async def mistaken(request: Request, error: Any) -> Response:
        return answer(as_problem(error))

    async def unreadable(request: Request, error: Any) -> Response:
        return answer(Problem(422, _first_fault(error)))

    async def left(request: Request, error: Exception) -> Response:
        return Response(status_code=CLIENT_LEFT)

    async def failed(request: Request, error: Exception) -> Response:
        return answer(Problem(500, FAULT))

    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(DisaError, mistaken)
    app.add_exception_handler(RequestValidationError, unreadable)
    app.add_exception_handler(ClientDisconnect, left)
    app.add_exception_handler(Exception, failed)


def _first_fault(error: RequestValidationError) -> str:
    """Say which field of a request is wrong; of several the first."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"][1:] if isinstance(part, int) or part.isidentifier()]
    field = ".".join(place) or "the body"
    return f"{field}: {first['msg']}; docs describes the request"
