"""Pictures with an embedded ICC profile are shown in sRGB, as models know colours (D115)."""

import io

from PIL import Image, ImageCms

from disa.errors import one_line

# Colour spaces of profiles, and the modes of pictures that they describe.
MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab ": "LAB"}


def in_srgb(image: Image.Image, name: str, notes: list[str]) -> Image.Image:
    """Return the picture with its colours in sRGB, without transparency if they had to change.

    A profile that is damaged, or of another kind than the picture, is ignored with a note.
    """
    content = image.info.get("icc_profile")
    if not content:
        return image
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(content))
        space = profile.profile.xcolor_space
        if "srgb" in (profile.profile.profile_description or "").lower():
            return image
        colours = _colours(image)
        if MODES.get(space) != colours.mode:
            raise ValueError(f"it describes {space.strip()}, the picture is {colours.mode}")
        srgb = ImageCms.createProfile("sRGB")
        changed = ImageCms.profileToProfile(colours, profile, srgb, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, ImportError) as error:
        notes.append(f"{name}: its colour profile is of no use and is ignored ({one_line(error)})")
        return image
    return changed or image


def _colours(image: Image.Image) -> Image.Image:
    """Return the picture without palette and transparency."""
    if image.mode in ("1", "LA", "La"):
        return image.convert("L")
    if image.mode in ("P", "PA", "RGBA", "RGBa", "RGBX", "YCbCr"):
        return image.convert("RGB")
    return image
