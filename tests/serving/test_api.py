"""What clients get: sessions, answers in every format, refusals with a remedy."""

import base64
import io
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from asking import Client, png, refused, until
from PIL import Image

from disa.data.rle import decode_rle
from disa.inference.segmenter import Segmenter
from disa.serving import service
from disa.serving.service import Service

WORDS = ["House", "sea|ocean", "grass"]


def ask(client: Client, name: str, labels: object = WORDS, **options: object) -> object:
    format = options.pop("format", "json")
    body = {"labels": labels, **options}
    return client.post(f"/sessions/{name}/segment", params={"format": format}, json=body)


def test_a_picture_is_uploaded_once_and_asked_often(
    serve: Callable[..., Client], segmenter: Segmenter
):
    client = serve()
    content = png()
    name = client.upload(content, name="shore/boat.png")
    described = client.get(f"/sessions/{name}").json()
    assert (described["width"], described["height"], described["name"]) == (60, 40, "boat.png")

    expected = segmenter(content, WORDS)
    data = ask(client, name).json()
    assert [word["word"] for word in data["words"]] == WORDS
    assert {word["word"]: word["area"] for word in data["words"]} == expected.areas
    assert data["image"] == "boat.png"
    assert ask(client, name, "sky").json()["words"][0]["area"] == 2400

    label_map = Image.open(io.BytesIO(ask(client, name, format="labels").content))
    np.testing.assert_array_equal(np.asarray(label_map), expected.labels)
    coco = ask(client, name, format="coco").json()
    region = coco["annotations"][0]
    mask = decode_rle(region["segmentation"]["counts"], (40, 60))
    np.testing.assert_array_equal(mask, expected.labels == region["category_id"] - 1)
    overlay = Image.open(io.BytesIO(ask(client, name, format="overlay").content))
    assert overlay.size == expected.overlay().size

    assert client.delete(f"/sessions/{name}").status_code == 204
    refused(ask(client, name), 404, "upload the picture again")


def test_maps_hold_every_pixels_label_and_score(serve: Callable[..., Client], segmenter: Segmenter):
    client = serve()
    content = png()
    data = ask(client, client.upload(content), background=0.4, maps=True).json()
    expected = segmenter(content, WORDS, background=0.4)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data["pixels"])))).astype(int)
    labels = pixels[..., 0] + 256 * pixels[..., 1]
    np.testing.assert_array_equal(np.where(labels == 65535, -1, labels), expected.labels)
    np.testing.assert_allclose(pixels[..., 2] / 255, expected.confidence, atol=0.003)
    for word, tokens in zip(data["words"], expected.token_saliency, strict=True):
        saliency = Image.open(io.BytesIO(base64.b64decode(word["saliency"])))
        assert saliency.size == tokens.shape[::-1]


def test_one_request_does_both(serve: Callable[..., Client], segmenter: Segmenter):
    client = serve()
    content = png()
    query = {"labels": "House, sea|ocean, grass", "background": "wall, floor"}
    data = client.post("/segment", content=content, params=query).json()
    expected = segmenter(content, WORDS, background=["wall", "floor"])
    assert {word["word"]: word["area"] for word in data["words"]} == expected.areas
    assert len(client.service.sessions) == 0


def test_a_large_picture_can_be_shrunk_first(serve: Callable[..., Client]):
    client = serve()
    name = client.upload(png(80, 160), long_side=64)
    described = client.get(f"/sessions/{name}").json()
    assert (described["width"], described["height"]) == (64, 32)
    assert "160 x 80" in described["notes"][0]
    shown = Image.open(io.BytesIO(client.get(f"/sessions/{name}/picture").content))
    assert shown.size == (64, 32)


@pytest.mark.parametrize(
    ("labels", "options", "fact"),
    [
        ([], {}, "label"),
        ("", {}, "label"),
        (["sea", "sea"], {}, "twice"),
        (["a"] * 201, {}, "10"),
        ([f"label {number}" for number in range(12)], {}, "10"),
        (["sea"], {"background": "1, 2, 3, 4, 5, 6, 7, 8, 9, 10"}, "10"),
        (["x" * 31], {}, "30"),
        (["sea"], {"background": 2}, "background"),
        (["sea"], {"gate": 0}, "gate"),
        (["sea"], {"colour": "red"}, "colour"),
        (7, {}, "labels"),
        (["sea"], {"format": "gif"}, "format"),
    ],
)
def test_labels_that_make_no_sense(
    serve: Callable[..., Client], labels: object, options: dict[str, object], fact: str
):
    client = serve(max_labels=10, max_label_length=30)
    refused(ask(client, client.upload(png()), labels, **options), 422, fact)


@pytest.mark.parametrize(
    ("content", "status", "fact"),
    [
        (b"", 422, "empty"),
        (b"<html>", 422, "not an image"),
        (png()[:200], 422, "truncated"),
        (png(200, 300), 413, "50,000"),
        (b"\0" * 1_000_001, 413, "1,000,000"),
    ],
)
def test_pictures_that_are_refused(
    serve: Callable[..., Client], content: bytes, status: int, fact: str
):
    client = serve(max_pixels=50_000, max_megabytes=1)
    refused(client.post("/sessions", content=content), status, fact)
    refused(client.post("/segment?labels=sea", content=content), status, fact)


def test_a_body_without_a_length_is_measured_as_it_comes(serve: Callable[..., Client]):
    client = serve(max_megabytes=1)
    parts = (b"\0" * 2**16 for _ in range(40))
    refused(client.post("/sessions", content=parts), 413, "1,000,000")


def test_what_is_not_there(serve: Callable[..., Client]):
    client = serve()
    refused(client.get("/nothing"), 404, "docs")
    refused(client.get("/samples/99"), 404, "0 to 5")
    refused(client.put("/sessions"), 405, "POST")
    refused(client.post("/sessions/x/segment", content=b"{"), 422)
    refused(ask(client, "x" * 64), 404)


def test_a_mistake_of_the_server_tells_nothing(
    serve: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
):
    client = serve()
    name = client.upload(png())
    monkeypatch.setattr(Service, "_answer", lambda *_: 1 / 0)
    refused(ask(client, name), 500, "mistake")
    monkeypatch.undo()
    assert ask(client, name).status_code == 200


def test_more_requests_than_places(serve: Callable[..., Client], stuck: threading.Event):
    client = serve(queue=2)
    with ThreadPoolExecutor() as pool:
        waiting = [pool.submit(client.post, "/sessions", content=png()) for _ in range(2)]
        until(lambda: client.service.places.taken == 2)
        response = client.post("/sessions", content=png())
        refused(response, 429, "2 requests")
        assert int(response.headers["retry-after"]) >= 1
        refused(client.get("/ready"), 503)
        assert client.get("/health").status_code == 200
        stuck.set()
        assert [each.result().status_code for each in waiting] == [201, 201]
    assert client.get("/ready").status_code == 200


def test_a_request_that_takes_too_long(serve: Callable[..., Client], stuck: threading.Event):
    client = serve(timeout=1)
    response = client.post("/sessions", content=png())
    refused(response, 503, "1 s")
    assert response.headers["retry-after"]
    stuck.set()
    assert client.service.places.taken == 0


def test_pictures_that_come_together_are_looked_at_together(
    serve: Callable[..., Client], stuck: threading.Event
):
    client = serve()
    pictures = [png(seed=seed) for seed in range(5)]
    with ThreadPoolExecutor() as pool:
        other = pool.submit(client.upload, png(40, 90))  # of another view, it keeps the model busy
        until(lambda: client.service.places.taken == 1 and not client.service.worker._jobs)
        names = [pool.submit(client.upload, picture) for picture in pictures]
        until(lambda: len(client.service.worker._jobs) == 5)
        stuck.set()
        asked = [ask(client, name.result()).json() for name in names]
        assert other.result()
    number = client.service.metrics.registry.get_sample_value
    assert number("disa_batch_size_sum") == 6 + 5  # pictures, then answers one by one
    assert number("disa_batch_size_count") == 2 + 5
    alone = [client.post("/segment?labels=House,sea|ocean,grass", content=p) for p in pictures[3:]]
    for together, single in zip(asked[3:], alone, strict=True):
        for word, own in zip(together["words"], single.json()["words"], strict=True):
            assert abs(word["share"] - own["share"]) < 0.01


def test_numbers_for_prometheus(serve: Callable[..., Client]):
    client = serve(max_sessions=1)
    client.upload(png())
    client.upload(png())
    client.get("/sessions/made-up")
    client.get("/made-up")
    client.request("MADEUP", "/made-up")
    text = client.get("/metrics").text
    for line in (
        'disa_requests_total{method="POST",route="/sessions",status="201"} 2.0',
        'disa_requests_total{method="GET",route="/sessions/{id}",status="404"} 1.0',
        'disa_requests_total{method="other",route="other",status="404"} 1.0',
        "disa_sessions 1.0",
        "disa_sessions_dropped_room 1.0",
    ):
        assert line in text.splitlines()
    assert "made-up" not in text


def test_the_description_lists_every_route(serve: Callable[..., Client]):
    client = serve()
    schema = client.get("/openapi.json").json()
    page = client.get("/docs").text
    for path in schema["paths"]:
        assert path in page
    assert {"/segment", "/sessions", "/sessions/{id}/segment"} <= set(schema["paths"])
    assert "HTTPValidationError" not in json.dumps(schema)  # it would be a problem
    assert "script-src 'none'" in client.get("/docs").headers["content-security-policy"]


def test_samples_are_drawn(serve: Callable[..., Client], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(service, "SAMPLE_SIDE", 64)
    client = serve()
    samples = client.get("/samples").json()
    picture = Image.open(io.BytesIO(client.get(f"/{samples[-1]['url']}").content))
    assert picture.size == (64, 64)
    assert all(sample["nouns"] for sample in samples)
