"""A server in this process, over a model that sees nothing, for what needs no true answer."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from asking import ADDRESS, Client

import disa
from disa.inference.segmenter import Segmenter
from disa.serving.app import serve_app
from disa.serving.guard import Access
from disa.serving.limits import Limits
from disa.serving.service import Service, Settings


@pytest.fixture(scope="module")
def segmenter(model_folder: Path) -> Segmenter:
    return disa.load(model_folder, device="cpu")


@pytest.fixture
def serve(segmenter: Segmenter) -> Iterator[Callable[..., Client]]:
    """Return a function that starts a server with these limits, and who may ask."""
    clients = []

    def start(access: Access = Access(), **limits: int) -> Client:  # noqa: B008
        service = Service(segmenter, Settings("small"), Limits(**limits))
        client = Client(serve_app(service, access), ADDRESS, raise_server_exceptions=False)
        client.service = service
        clients.append(client)
        return client.__enter__()

    yield start
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Let the model look at no picture before this event is set."""
    event = threading.Event()
    look = Service._look

    def wait(self: Service, pictures: object) -> object:
        event.wait(20)
        return look(self, pictures)

    monkeypatch.setattr(Service, "_look", wait)
    yield event
    event.set()
