"""The page in a real browser, over the bundled model: what people see, hear and download."""

import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asking import until
from PIL import Image
from server_process import ServerProcess

from disa.picturebook import NOUNS, TEST_SEED, render

CHROMIUM = shutil.which("chromium")
SCENE = render(TEST_SEED, 44, 192)  # sun, cup and apple before sky and snow
# Drops a file on the page as a person would: browsers let no test drag one from the desktop.
DROP = """async ([name, bytes]) => {
  const data = new DataTransfer();
  data.items.add(new File([Uint8Array.from(bytes)], name, { type: "image/png" }));
  document.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true }));
}"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None and "DISA_TEST_BROWSER" not in os.environ,
        reason="needs Debian's chromium",
    ),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path_factory.mktemp("page"), "--max-megabytes", "1")
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Root has no sandbox in a container.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, server: ServerProcess) -> Iterator[Any]:
    """The page, which may complain of nothing."""
    context = browser.new_context(accept_downloads=True)
    context.set_default_timeout(300_000)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text) if "CSP" in line.text else None)
    page.goto(server.address)
    yield page
    context.close()
    assert complaints == []


def drop(page: Any, name: str, content: bytes) -> None:
    page.evaluate(DROP, [name, list(content)])


def scene_file() -> bytes:
    file = io.BytesIO()
    Image.fromarray(SCENE.image).save(file, "PNG")
    return file.getvalue()


def place_of(noun: str) -> tuple[float, float]:
    """Return a point well inside a noun's region, in shares of the picture."""
    rows, columns = np.nonzero(SCENE.labels == NOUNS.index(noun))
    middle = np.argmin(np.hypot(rows - rows.mean(), columns - columns.mean()))
    size = len(SCENE.labels)
    return (columns[middle] + 0.5) / size, (rows[middle] + 0.5) / size


def hover(page: Any, noun: str) -> str:
    """Put the pointer on a noun and return what the page calls it."""
    x, y = place_of(noun)
    box = page.locator("#picture").bounding_box()
    page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
    return str(page.locator("#tip").inner_text())


def words(page: Any) -> list[str]:
    return [str(text) for text in page.locator("#words .label").all_inner_texts()]


def test_a_dropped_picture_is_named_while_labels_are_typed(page: Any, server: ServerProcess):
    drop(page, "table.png", scene_file())
    page.get_by_label("Labels", exact=True).type("snow, sky, apple, mug|cup")
    page.wait_for_selector("#words li:nth-child(4)")  # the last has not been ended by a comma
    until(lambda: words(page)[3:] == ["mug|cup"])
    for noun, word in (("apple", "apple"), ("cup", "mug|cup"), ("sky", "sky"), ("snow", "snow")):
        assert hover(page, noun).startswith(word)

    # The keyboard does the same, and a screen reader hears it.
    page.locator("#picture").focus()
    page.keyboard.press("Shift+ArrowUp")
    page.keyboard.press("ArrowLeft")
    spoken = page.locator("#spoken").inner_text().split(", ")
    assert spoken[0] in ("snow", "sky", "apple", "mug|cup")
    assert 0 <= float(spoken[1]) <= 1

    # A label alone, and where the model looks for it.
    page.get_by_role("button", name="apple").last.click()
    page.get_by_text("Saliency").click()
    assert page.locator("button[aria-pressed=true]").inner_text().startswith("apple")
    page.keyboard.press("Escape")
    until(lambda: page.locator("button[aria-pressed=true]").count() == 0)

    # What is downloaded is what the server says.
    with page.expect_download() as download:
        page.get_by_role("button", name="JSON").click()
    assert download.value.suggested_filename == "table.json"
    saved = json.loads(Path(download.value.path()).read_text())
    assert [word["word"] for word in saved["words"]] == words(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Label map").click()
    label_map = np.asarray(Image.open(download.value.path()))
    assert (label_map == 2).sum() == saved["words"][2]["area"]
    true = SCENE.labels == NOUNS.index("apple")
    assert ((label_map == 2) & true).sum() > 0.8 * true.sum()

    # A reload keeps picture and labels. The one that is being typed is no label yet.
    page.locator("#input-a").press("Enter")
    page.reload()
    page.wait_for_selector("#words li:nth-child(4)")
    assert words(page) == ["snow", "sky", "apple", "mug|cup"]
    assert hover(page, "apple").startswith("apple")


def test_two_sets_of_labels_and_pixels_without_one(page: Any):
    drop(page, "table.png", scene_file())
    page.locator("#input-a").fill("apple, snow|sky")
    page.wait_for_selector("#words li:nth-child(2)")
    page.get_by_label("Compare").check()
    page.locator("#input-b").fill("sun, cup")
    until(lambda: hover(page, "cup")[:3] in ("sun", "cup"))
    page.locator("#divider").fill("100")
    until(lambda: hover(page, "cup")[:3] not in ("sun", "cup"))

    page.get_by_label("No label for").select_option("labels")
    page.get_by_label("Which").fill("sun, cup")
    until(lambda: hover(page, "cup").startswith("no label"))
    page.get_by_label("No label for").select_option("threshold")
    page.locator("#threshold").fill("100")
    until(lambda: hover(page, "apple").startswith("no label"))


def test_what_goes_wrong_is_said(page: Any):
    alert = page.get_by_role("alert")
    drop(page, "notes.txt", b"no picture")
    page.wait_for_selector("#error:not([hidden])")
    assert "not an image" in alert.inner_text()
    drop(page, "large.png", b"\0" * 1_000_001)
    until(lambda: "1,000,000" in alert.inner_text())

    # A drawing helps, with its labels; two that look alike are refused; a strange one is named.
    page.locator("#samples button").first.click()
    page.wait_for_selector("#words li")
    assert page.locator("#error").is_hidden()
    page.locator("#input-a").fill("sea, ")
    until(lambda: "twice" in alert.inner_text())
    page.get_by_role("button", name="Remove sea").last.click()
    page.locator("#input-a").fill("giraffe")
    until(lambda: "giraffe" in page.locator("#odd").inner_text())
    assert page.locator("#error").is_hidden()


def test_a_dropped_session_is_opened_again(page: Any, server: ServerProcess):
    drop(page, "table.png", scene_file())
    page.locator("#input-a").fill("apple, snow")
    page.wait_for_selector("#words li:nth-child(2)")
    kept = json.loads(page.evaluate("sessionStorage.getItem('disa')"))
    page.evaluate("(id) => fetch(`sessions/${id}`, { method: 'DELETE' })", kept["id"])
    page.locator("#input-a").fill("sky")
    until(lambda: words(page)[1:] == ["sky"])
    assert json.loads(page.evaluate("sessionStorage.getItem('disa')"))["id"] != kept["id"]
