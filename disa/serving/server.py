"""A server process: its socket, its signals and its end."""

import signal
import socket
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from disa.errors import DisaError
from disa.serving.telemetry import log_json_lines

WAITING = 128  # connections that the system holds until they are accepted


class _Server(uvicorn.Server):
    """Stops on a signal after what is under way, and so that the process ends well."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop taking requests; a second signal waits for none."""
        # uvicorn's own would end the process by the signal once all is done.
        self.force_exit = self.should_exit
        self.should_exit = True


def bound(host: str, port: int) -> socket.socket:
    """Return a socket at this address. Raises `DisaError` if it cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        # From now on the system holds connections until the model is there.
        listening.listen(WAITING)
    except OSError as error:
        raise DisaError(
            f"cannot serve at {host}, port {port} ({error}); choose another --port or --host"
        ) from None
    return listening


def address_of(listening: socket.socket) -> str:
    """Return a socket's address as browsers take it."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def run(app: ASGIApp, listening: socket.socket, timeout: int) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP; then finish requests, `timeout` seconds at most."""
    log_json_lines()
    config = uvicorn.Config(
        app,
        backlog=WAITING,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=timeout,
    )
    server = _Server(config)
    # A terminal that is closed ends the server as Ctrl-C does, unless nohup says otherwise.
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, server.handle_exit)
    server.run(sockets=[listening])
