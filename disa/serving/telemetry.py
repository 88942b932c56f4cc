"""What an operator sees: a JSON line for each request, and numbers for Prometheus."""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOG = logging.getLogger("disa.serving")
METHODS = ("GET", "HEAD", "POST", "DELETE", "OPTIONS")
LONGEST_PATH = 200  # characters of an unknown address in the log
SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60)


class JsonLines(logging.Formatter):
    """One line of ASCII a record, without control characters: no client can forge another line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        moment = datetime.fromtimestamp(record.created, UTC)
        data = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            data["error"] = self.formatException(record.exc_info)
        # JSON escapes all control characters but one.
        return json.dumps(data).replace("\x7f", "\\u007f")


def log_json_lines() -> None:
    """Write the logs of this process to stderr as JSON lines."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    logging.captureWarnings(True)


class Metrics:
    """Numbers of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "disa_requests",
            "Requests answered.",
            ["route", "method", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "disa_request_seconds",
            "Time of a request.",
            ["route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.batches = Histogram(
            "disa_batch_size",
            "Items that went through the model together.",
            buckets=(1, 2, 4, 8),
            registry=self.registry,
        )

    def show(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        """Add a number that is read whenever somebody looks."""
        Gauge(name, meaning, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        """Return all numbers in Prometheus' text format."""
        return generate_latest(self.registry)


@dataclass(frozen=True)
class Telemetry:
    """Counts and logs every request. Neither labels nor names of sessions are written down."""

    app: ASGIApp
    metrics: Metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and remember how it went."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 500
        begun = time.monotonic()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            self._remember(scope, status, time.monotonic() - begun)

    def _remember(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", None)
        # Metrics have a bounded number of names; whatever clients make up is one of them.
        method = scope["method"] if scope["method"] in METHODS else "other"
        self.metrics.requests.labels(route or "other", method, str(status)).inc()
        self.metrics.seconds.labels(route or "other").observe(seconds)
        client = scope.get("client")
        facts: dict[str, Any] = {
            "method": method,
            "route": route or scope["path"][:LONGEST_PATH],
            "status": status,
            "seconds": round(seconds, 4),
            "client": client[0] if client else None,
        }
        LOG.info("request", extra={"facts": facts})
