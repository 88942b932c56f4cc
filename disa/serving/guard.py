"""Who may ask, and how much they may send: checked before a request reaches its route.

A page of another site can reach a server on the same machine, so it is looked at where a request
comes from: its Host (a name that was rebound to this machine), and its Origin (decision D151).
"""

import asyncio
import base64
import binascii
import hmac
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from disa.serving.limits import Limits
from disa.serving.problems import Problem, answer

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
OPEN_PATHS = ("/health", "/ready")  # they tell nothing, and whoever watches has no token
PICTURE_PATHS = ("/sessions", "/segment")
JSON_BYTES = 2**18
DISCARD_SECONDS = 5
UNSAFE = ("POST", "PUT", "PATCH", "DELETE")
HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


@dataclass(frozen=True)
class Access:
    """Who may ask."""

    token: str | None = None  # None: everybody who reaches the server
    hosts: Collection[str] | None = LOOPBACK  # names of the server; None: any
    origins: tuple[str, ...] = ()  # other sites whose pages may ask


class Guard:
    """Refuses requests before they are read, and adds the headers of every answer."""

    def __init__(self, app: ASGIApp, access: Access, limits: Limits) -> None:
        self.app = app
        self.access = access
        self.limits = limits
        # Other sites may not show these pictures either, unless their pages may ask.
        sharing = "cross-origin" if access.origins else "same-origin"
        self.headers = {**HEADERS, "cross-origin-resource-policy": sharing}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with a problem."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        headers = Headers(scope=scope)
        most = JSON_BYTES
        if scope["path"] in PICTURE_PATHS:
            most = self.limits.picture_bytes
        body = _Body(receive, most, self.limits.timeout)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                if message["status"] >= 400:
                    await body.discard()
                headers = MutableHeaders(scope=message)
                for name, value in self.headers.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self._check_host(headers)
            self._check_origin(scope["method"], headers)
            if scope["path"] not in OPEN_PATHS:
                self._check_token(headers)
            _check_length(headers, most)
        except Problem as problem:
            await answer(problem)(scope, receive, send_with_headers)
            return
        await self.app(scope, body.receive, send_with_headers)

    def _check_host(self, headers: Headers) -> None:
        """Refuse a name that is not the server's: it may have been rebound to this machine."""
        hosts = self.access.hosts
        if hosts is not None and _host_name(headers.get("host", "")) not in hosts:
            raise Problem(
                421,
                "this server is not called as the request's Host says; use 127.0.0.1, or start "
                "disa serve with --host-name",
            )

    def _check_origin(self, method: str, headers: Headers) -> None:
        """Refuse what a page of another site asks without having been allowed to."""
        origin = headers.get("origin")
        if method not in UNSAFE or origin is None or origin in self.access.origins:
            return
        if origin.partition("://")[2] != headers.get("host"):
            raise Problem(
                403,
                "pages of other sites may not ask; start disa serve with --allow-origin for one",
            )

    def _check_token(self, headers: Headers) -> None:
        if self.access.token is None:
            return
        given = _given_token(headers.get("authorization", ""))
        # Compared in a time that does not tell how much of it is right.
        if not hmac.compare_digest(given, self.access.token.encode()):
            raise Problem(
                401,
                "a token is needed: Authorization: Bearer TOKEN, or TOKEN as the password",
                {"WWW-Authenticate": 'Basic realm="disa", charset="UTF-8"'},
            )


def _host_name(host: str) -> str:
    """Return the name in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _given_token(header: str) -> bytes:
    """Return the token of a request: a bearer's, or the password that a browser asked for."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip().encode()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value).partition(b":")[2]
        except (binascii.Error, ValueError):
            return b""
    return b""


def _check_length(headers: Headers, most: int) -> None:
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > most:
        raise _too_large(most)


def _too_large(most: int) -> Problem:
    return Problem(413, f"the request has more than {most:,} bytes; shrink the picture or the list")


class _Body:
    """A request's body as it arrives: not too long, and in time."""

    def __init__(self, receive: Receive, most: int, timeout: int) -> None:
        self._receive = receive
        self._most = most
        self._timeout = timeout
        self._deadline = asyncio.get_running_loop().time() + timeout
        self._size = 0
        self._is_whole = False

    async def receive(self) -> Message:
        """Return the next part. Raises `Problem` beyond the limits."""
        if self._is_whole:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            self._is_whole = True  # nobody waits for the rest
            raise Problem(
                408, f"the request did not arrive within {self._timeout} s; send it faster"
            ) from None
        self._size += len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        if self._size > self._most:
            raise _too_large(self._most)
        return message

    async def discard(self) -> None:
        """Take what a refused client still sends, a while: it reads no answer before."""
        with suppress(TimeoutError):
            async with asyncio.timeout(DISCARD_SECONDS):
                while not self._is_whole:
                    message = await self._receive()
                    self._is_whole = not message.get("more_body", False)
