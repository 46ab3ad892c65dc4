"""From the bytes of an image file to a square of uint8."""

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

IMAGES = (
    ".jpg",
    ".jpeg",
    ".jfif",
    ".png",
    ".bmp",
    ".tif",
    ".tiff",
    ".webp",
    ".gif",
    ".jp2",
    ".ppm",
    ".pgm",
    ".pbm",
)
"""suffixes of files that are taken for images"""
DEPTHS = (8, 10, 12, 14, 16)
"""bits that cameras give a grey value, stored in 16"""


@dataclass(frozen=True)
class Depth:
    """The grey values between which the deep images of one kind in a folder lie, shown as black and white."""

    black: float
    white: float

    @classmethod
    def of(cls, low: float, high: float, whole: bool) -> "Depth":
        """From the extremes over all images: the fewest bits that hold whole numbers; of others 0 to 1 or to 255."""
        tops = [2**bits - 1 for bits in DEPTHS] if whole else [1, 255]
        top = next((top for top in tops if low >= 0 and high <= top), None)
        return cls(0.0, float(top)) if top else cls(float(low), float(high) if high > low else float(low) + 1)


Depths = Mapping[str, Depth]
"""by kind, see `kind_of`: a folder may hold 16-bit images beside float ones, whose values have nothing in common"""


def kind_of(image: Image.Image) -> str:
    """The kind of a deep image: `I` (whole grey values of 16 or 32 bits) or `F` (floats); empty for any other."""
    return image.mode[0] if image.mode.startswith(("I", "F")) else ""


def unopened(data: bytes) -> Image.Image:
    """An encoded image of which no more than the head has been read. OSError where the bytes begin as no image does."""
    try:
        return Image.open(io.BytesIO(data))
    except UnidentifiedImageError:  # its own words name an address in memory
        raise OSError("it does not begin as an image does" if data else "it is empty") from None


def opened(data: bytes, side: int) -> Image.Image:
    """The first picture of an encoded image, upright, decoded at a size near `side` where its kind allows that."""
    image = unopened(data)
    image.draft("RGB", (side, side))  # a JPEG decodes at the nearest larger size
    return ImageOps.exif_transpose(image)


def shallow(image: Image.Image, depths: Depths | None = None) -> Image.Image:
    """An RGB image with 8 bits a channel: deep grey values by their depth, else 16 bits; what is transparent is white."""
    if depths and (depth := depths.get(kind_of(image))):
        grey = np.asarray(image).astype(float)
        if not np.isfinite(grey).all():
            raise ValueError("it holds values that are not numbers")
        grey = (grey - depth.black) * (255 / (depth.white - depth.black))
        return Image.fromarray(grey.round().clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode.startswith("I"):  # Pillow would clip 16 bits to 8 instead of scaling them
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode.endswith(("A", "a")) or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert("RGB")


def decode(data: bytes, pixels: int, depths: Depths | None = None) -> np.ndarray:
    """An encoded image as uint8 (3, pixels, pixels): upright by its EXIF mark, cut square about its centre, scaled.

    Grey, palette, CMYK and 16-bit images become RGB, what is transparent becomes white; of an animation the first
    picture counts. OSError, SyntaxError or ValueError if the bytes are no whole image.
    """
    square = ImageOps.fit(shallow(opened(data, pixels), depths), (pixels, pixels), Image.Resampling.BOX)
    return np.asarray(square).transpose(2, 0, 1)
