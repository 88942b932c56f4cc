"""`disa segment` of videos, which PyAV writes and reads back."""

import json
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from command_line import invoke

import disa
from disa.data.drawn import DrawnDataset

LABELS = "house, sea, sky, grass"
RATE = 8
FRAMES = 12


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """Drawings of 64 x 96 pixels, each shown for four frames."""
    drawn = DrawnDataset("val", 3)
    return [drawn.image(index // 4)[:64] for index in range(FRAMES)]


@pytest.fixture(scope="module")
def film(pictures: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film that keeps every pixel, with sound."""
    path = tmp_path_factory.mktemp("films") / "film.mkv"
    with av.open(str(path), "w") as out:
        shown = out.add_stream("ffv1", rate=RATE)
        shown.height, shown.width = pictures[0].shape[:2]
        shown.pix_fmt = "bgr0"
        heard = out.add_stream("aac", rate=16000)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            frame.time_base = Fraction(1, RATE)
            out.mux(shown.encode(frame))
            wave = np.sin(np.arange(2000) * 0.1 * (number + 1)).astype(np.float32)[None]
            sound = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            sound.sample_rate = 16000
            sound.pts = number * 2000
            out.mux(heard.encode(sound))
        out.mux(shown.encode())
        out.mux(heard.encode())
    return path


def segment(film: Path, out: Path, *options: object) -> list[dict]:
    done = invoke("segment", film, "-l", LABELS, "-o", out, *options)
    assert done.exit_code == 0, done.output
    assert not list(out.glob(".*"))
    return [json.loads(line) for line in (out / f"{film.stem}.jsonl").read_text().splitlines()]


def maps(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]


def expected(pictures: list[np.ndarray]) -> list[np.ndarray]:
    segmenter = disa.load("mini")
    return [result.labels for result in segmenter(pictures, LABELS)]


def test_every_frame_is_segmented_as_a_picture(
    film: Path, pictures: list[np.ndarray], tmp_path: Path
):
    lines = segment(film, tmp_path)
    found = maps(tmp_path / "film_labels.mkv")
    assert len(found) == FRAMES
    for labels, wanted in zip(found, expected(pictures), strict=True):
        np.testing.assert_array_equal(labels, wanted)
    assert [line["frame"] for line in lines] == list(range(FRAMES))
    assert lines[5]["seconds"] == pytest.approx(5 / RATE, abs=0.001)
    assert sum(lines[5]["areas"].values()) == 64 * 96

    with av.open(str(tmp_path / "film_overlay.mp4")) as shown, av.open(str(film)) as original:
        assert shown.streams.video[0].codec_context.name == "h264"
        packets = [bytes(packet) for packet in original.demux(audio=0) if packet.size]
        copied = [bytes(packet) for packet in shown.demux(audio=0) if packet.size]
    assert packets == copied
    with av.open(str(tmp_path / "film_overlay.mp4")) as shown:
        times = [frame.time for frame in shown.decode(video=0)]
    np.testing.assert_allclose(times, np.arange(FRAMES) / RATE, atol=0.002)


def test_an_excerpt_has_its_frames_and_its_sound(
    film: Path, pictures: list[np.ndarray], tmp_path: Path
):
    lines = segment(film, tmp_path, "--from", 0.5, "--to", 1.25, "--every", 4)
    found = maps(tmp_path / "film_labels.mkv")
    wanted = expected(pictures)
    assert len(found) == 6
    np.testing.assert_array_equal(found[0], wanted[4])
    np.testing.assert_array_equal(found[3], wanted[4])  # between two that are segmented
    np.testing.assert_array_equal(found[4], wanted[8])
    assert [line["frame"] for line in lines] == [0, 4]
    assert [line["seconds"] for line in lines] == pytest.approx([0.5, 1.0], abs=0.001)
    with av.open(str(tmp_path / "film_overlay.mp4")) as shown:
        seconds = [
            float(packet.pts * packet.time_base) for packet in shown.demux(audio=0) if packet.size
        ]
    assert 0 <= min(seconds) < 0.07
    assert 0.65 < max(seconds) < 0.75


def test_smoothing_mixes_probabilities(film: Path, pictures: list[np.ndarray], tmp_path: Path):
    segment(film, tmp_path, "--smooth", 0.6, "--no-overlay")
    assert not (tmp_path / "film_overlay.mp4").exists()
    mixed = None
    for picture, labels in zip(pictures, maps(tmp_path / "film_labels.mkv"), strict=True):
        scores = disa.load("mini")(picture, LABELS, scores=True).scores
        mixed = scores if mixed is None else 0.6 * mixed + 0.4 * scores
        np.testing.assert_array_equal(labels, mixed.argmax(0))


def test_a_film_that_was_filmed_sideways_is_turned(tmp_path: Path, pictures: list[np.ndarray]):
    path = tmp_path / "turned.mp4"
    upright = pictures[0]
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264rgb", rate=RATE, options={"qp": "0"})
        lying = np.ascontiguousarray(np.rot90(upright))
        stream.height, stream.width = lying.shape[:2]
        stream.pix_fmt = "rgb24"
        frame = av.VideoFrame.from_ndarray(lying, format="rgb24")
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    # The header of the track says how players turn it: a matrix of nine numbers.
    content = path.read_bytes()
    lies = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 2**30)
    turned = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 2**30)
    place = content.index(lies, content.index(b"tkhd"))
    path.write_bytes(content[:place] + turned + content[place + len(lies) :])

    segment(path, tmp_path / "out")
    (labels,) = maps(tmp_path / "out/turned_labels.mkv")
    np.testing.assert_array_equal(labels, expected([upright])[0])


def test_sound_in_an_unknown_codec_is_left_out(film: Path, tmp_path: Path):
    strange = tmp_path / "strange.mkv"
    strange.write_bytes(film.read_bytes().replace(b"A_AAC", b"A_NEW"))
    out = tmp_path / "out"
    done = invoke("segment", strange, "-l", LABELS, "-o", out, "--to", 0.5)
    assert done.exit_code == 0, done.output
    assert done.stderr.count(str(strange)) == 1
    assert "sound" in done.stderr
    with av.open(str(out / "strange_overlay.mp4")) as shown:
        assert not shown.streams.audio
        assert len(list(shown.decode(video=0))) == 4


def test_mistakes_are_one_line(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*arguments: object) -> None:
        done = invoke("segment", "-l", LABELS, "-o", tmp_path / "out", *arguments[1:])
        done.fails(arguments[0])
        assert not list((tmp_path / "out").glob("*"))

    broken = tmp_path / "broken.mp4"
    broken.write_bytes(film.read_bytes()[:500])
    refuse(broken, broken)
    strange = tmp_path / "strange.mkv"
    strange.write_bytes(film.read_bytes().replace(b"V_FFV1", b"V_NEW1"))
    refuse("codec", strange)
    refuse("no such file", tmp_path / "none.mp4")
    refuse("--saliency", film, "--saliency")
    refuse("--every", film, "--every", 0)
    refuse("--to", film, "--from", 2, "--to", 1)
    refuse("--smooth", film, "--smooth", 1)
    refuse("--smooth", film, "--smooth", 0.5, "--background", "foreground")
    refuse("9 s", film, "--from", 9)
    refuse("picture.png", film, "picture.png")
    refuse("one set", film, "-l", "sky")
    refuse(film.parent, film, "-o", film.parent)
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    refuse("disa-seg[video]", film)


def test_ctrl_c_keeps_what_is_done(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from disa.running.interruption import Interruption

    asked = iter([False] * 4)
    # The flag, as the command reads it after each frame and at the end.
    monkeypatch.setattr(
        Interruption, "asked", property(lambda _: next(asked, True), lambda *_: None), raising=False
    )
    done = invoke("segment", film, "-l", LABELS, "-o", tmp_path)
    assert done.exit_code == 130
    assert len(maps(tmp_path / "film_labels.mkv")) == 5
