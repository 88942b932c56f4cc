"""Pictures with an embedded ICC profile are shown in sRGB, as models know colours (D115)."""

import io
from collections.abc import Callable

from PIL import Image, ImageCms

from disa.errors import one_line

Change = Callable[[Image.Image], Image.Image]

# Colour spaces of profiles, and the modes of pictures that they describe.
MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab ": "LAB"}


def to_srgb(image: Image.Image, name: str, notes: list[str]) -> Change | None:
    """Return what takes the picture, or any part of it, to RGB in sRGB; None if nothing has to.

    Transparency is lost on the way. A profile that is damaged, or of another kind than the picture,
    is ignored with a note.
    """
    content = image.info.get("icc_profile")
    if not content:
        return None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(content))
        space = profile.profile.xcolor_space
        if "srgb" in (profile.profile.profile_description or "").lower():
            return None
        pixel = _colours(image.crop((0, 0, 1, 1)))
        if MODES.get(space) != pixel.mode:
            raise ValueError(f"it describes {space.strip()}, the picture is {pixel.mode}")
        srgb = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(profile, srgb, pixel.mode, "RGB")
        ImageCms.applyTransform(pixel, transform)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, ImportError) as error:
        notes.append(f"{name}: its colour profile is of no use and is ignored ({one_line(error)})")
        return None

    def change(part: Image.Image) -> Image.Image:
        changed = ImageCms.applyTransform(_colours(part), transform)
        assert changed is not None  # it is not done in place
        return changed

    return change


def _colours(image: Image.Image) -> Image.Image:
    """Return the picture without palette and transparency."""
    if image.mode in ("1", "LA", "La"):
        return image.convert("L")
    if image.mode in ("P", "PA", "RGBA", "RGBa", "RGBX", "YCbCr"):
        return image.convert("RGB")
    return image
