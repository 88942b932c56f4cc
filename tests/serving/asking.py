"""What asks a server in tests, and pictures to ask it for."""

import io
import time
from collections.abc import Callable

import numpy as np
from PIL import Image
from starlette.testclient import TestClient

from disa.serving.service import Service

ADDRESS = "http://127.0.0.1:8017"


def png(height: int = 40, width: int = 60, seed: int = 0) -> bytes:
    """Return a picture's file: smooth patches of colour."""
    patches = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    picture = Image.fromarray(patches).resize((width, height), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


class Client(TestClient):
    """Asks a server in this process."""

    service: Service

    def upload(self, content: bytes, **query: object) -> str:
        """Upload a picture and return its id."""
        response = self.post("/sessions", content=content, params=query)
        assert response.status_code == 201, response.text
        return str(response.json()["id"])


def refused(response: object, status: int, *facts: str) -> None:
    """Check that an answer is a problem that says this, and nothing of the server's files."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["title"]
    for fact in facts:
        assert fact in problem["detail"]
    for secret in ("Traceback", "site-packages", ".py", "disa/", "/tmp", "/root", "/home"):
        assert secret not in response.text


def until(is_so: Callable[[], object], seconds: float = 300) -> None:
    """Wait for something that happens in another thread or process."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
