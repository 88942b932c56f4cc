"""Pictures, masks, videos and places on the earth."""

from fractions import Fraction
from pathlib import Path

import miniatures
import numpy as np
from model_readers import segmenter
from PIL import Image
from reader import LABELS, SIZE, Reader, pixels

from disa.data.images import read_image, read_size
from disa.data.masks import read_colours, read_indices
from disa.formats.places import place_of
from disa.inference.request import Excerpt, parse_query
from disa.inference.video import segment_video


def write_pictures(folder: Path) -> None:
    picture = Image.fromarray(pixels())
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix in ("avif", "bmp", "gif", "jp2", "jpg", "ppm", "tga", "webp", "tif"):
        options = {"exif": exif} if suffix in ("jpg", "webp", "tif") else {}
        picture.save(folder / f"a.{suffix}", **options)
    picture.quantize(9).save(folder / "palette.png", transparency=3)
    picture.quantize(9).save(folder / "palette.bmp")
    Image.fromarray(pixels(4)).save(folder / "a.png", exif=exif)
    Image.fromarray(pixels(1).astype(np.uint16) * 99).save(folder / "deep.png")
    Image.fromarray(pixels(4), "CMYK").save(folder / "cmyk.tif", compression="tiff_lzw")
    Image.fromarray(pixels(1).astype(np.float32) / 255).save(folder / "floats.tif")
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return
    register_heif_opener()
    picture.resize((64, 64)).save(folder / "a.heic")


def read_pictures(folder: Path, file: Path) -> None:
    read_image(file)
    read_size(file)


def write_masks(folder: Path) -> None:
    labels = pixels(1) % 5
    miniatures.save_png(folder / "grey.png", labels)
    miniatures.save_png(folder / "palette.png", labels, palette=True)
    miniatures.save_png(folder / "deep.png", labels.astype(np.uint16) * 300)
    Image.fromarray(pixels()).save(folder / "colours.png")


def read_masks(folder: Path, file: Path) -> None:
    (read_colours if file.stem == "colours" else read_indices)(file)


def write_video(folder: Path) -> None:
    """Write two seconds with sound."""
    import av

    for name, codec, form in (("a.mkv", "ffv1", "bgr0"), ("a.mp4", "libx264", "yuv420p")):
        with av.open(str(folder / name), "w") as out:
            shown = out.add_stream(codec, rate=3)
            shown.height, shown.width = SIZE
            shown.pix_fmt = form
            heard = out.add_stream("aac", rate=16000)
            for number in range(6):
                frame = av.VideoFrame.from_ndarray(pixels(), format="rgb24")
                frame.pts = number
                frame.time_base = Fraction(1, 3)
                out.mux(shown.encode(frame))
                sound = av.AudioFrame.from_ndarray(
                    np.zeros((1, 5333), np.float32), format="fltp", layout="mono"
                )
                sound.sample_rate = 16000
                sound.pts = number * 5333
                out.mux(heard.encode(sound))
            out.mux(shown.encode())
            out.mux(heard.encode())


def read_video(folder: Path, file: Path) -> None:
    query = parse_query(LABELS)
    target = folder / "out"
    for _ in segment_video(segmenter(), str(file), query, Excerpt(), target, True, lambda: True):
        pass


def write_places(folder: Path) -> None:
    import rasterio

    transform = rasterio.Affine(0.5, 0, 7, 0, -0.5, 47)
    profile = {"driver": "GTiff", "height": SIZE[0], "width": SIZE[1], "dtype": "uint8"}
    place = {"crs": "EPSG:4326", "transform": transform}
    with rasterio.open(folder / "a.tif", "w", count=3, **profile, **place) as file:
        file.write(np.moveaxis(pixels(), -1, 0))
    Image.fromarray(pixels()).save(folder / "b.png")
    (folder / "b.pgw").write_text("0.5\n0\n0\n-0.5\n7\n47\n")


def read_places(folder: Path, file: Path) -> None:
    place_of(folder / "a.tif", SIZE)
    place_of(folder / "b.png", SIZE)


READERS = (
    Reader("pictures", write_pictures, read_pictures, tries=150),
    Reader("masks", write_masks, read_masks, tries=60),
    Reader("video", write_video, read_video, tries=10),
    Reader("places", write_places, read_places),
)
