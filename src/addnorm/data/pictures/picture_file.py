"""A picture file as a viewer shows it, in the size and the colours that a model takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from addnorm.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import UInt8

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "PPM")
"""As Pillow names them; nothing that draws from a description (EPS, PDF) or starts another program."""
SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".avif"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
PAPER = (255, 255, 255)
"""What shows through where a picture is transparent: the white of a page."""
GREY, COLOUR = 1, 3

Size = tuple[int, int]
"""Height and width, in pixels."""


class LeftOutWarning(UserWarning):
    """Files that stand among the pictures and are none."""


def picture(
    path: Path, *, size: Size | None = None, channels: int | None = None
) -> UInt8[np.ndarray, "height width channels"]:
    """The pixels of a picture: turned as its EXIF says, on white where it is transparent, its first frame if it moves.

    Args:
        path: a file in one of `FORMATS`, whatever its name ends in.
        size: height and width that it is brought to; None leaves it.
        channels: 1 for grey, 3 for colour; None for 1 if the picture is grey, else 3.

    Raises:
        UserError: the extra `data` is missing, or the file is no picture, cut off or damaged.
    """
    pillow = _pillow(path)
    try:
        with pillow.open(path, formats=FORMATS) as image:
            image.load()
            return fit(_flat(_upright(image)), size=size, channels=channels)
    except (OSError, ValueError, SyntaxError, EOFError, pillow.DecompressionBombError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{path} is no picture or a damaged one ({reason}); use a whole PNG or JPEG file.") from None


def fit(
    image: Any, *, size: Size | None = None, channels: int | None = None
) -> UInt8[np.ndarray, "height width channels"]:
    """The pixels of a grey or coloured Pillow image, in a size: the one way in which pictures and frames are resized.

    Pillow's bilinear filter, whose support grows with the shrinking: no pixel is left out of a smaller picture.
    Grey is `0.299 red + 0.587 green + 0.114 blue` (ITU-R BT.601).
    """
    if channels is not None:
        image = image.convert("L" if channels == GREY else "RGB")
    if size is not None and (image.height, image.width) != size:
        image = image.resize((size[1], size[0]), _resampling().BILINEAR)
    pixels = np.array(image, dtype=np.uint8)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def stack(pictures: Sequence[np.ndarray], paths: Sequence[Path]) -> UInt8[np.ndarray, "pictures height width channels"]:
    """Pictures of one size as one array; grey ones among coloured ones get three equal channels.

    Raises:
        UserError: two pictures differ in size; the first two are named.
    """
    for pixels, path in zip(pictures, paths, strict=True):
        if pixels.shape[:2] != pictures[0].shape[:2]:
            raise UserError(
                f"{paths[0]} has {_size(pictures[0])} pixels and {path} {_size(pixels)}; "
                "all images must have one size: set resize=32, for example, to bring them to 32 x 32."
            )
    channels = max(pixels.shape[2] for pixels in pictures)
    return np.stack([np.broadcast_to(pixels, (*pixels.shape[:2], channels)) for pixels in pictures])


def _upright(image: Any) -> Any:
    """Turned as EXIF says; a picture whose EXIF cannot be read is shown as it is stored."""
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # whatever a damaged tag makes of it: struct.error, KeyError, TypeError, ...
        return image


def _flat(image: Any) -> Any:
    """Without transparency, in 8 bits a channel: mode L where it is grey, else RGB."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode[0] in "IF":
        raise ValueError(f"its mode is {image.mode}, save it with 8 bits a channel")
    grey = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        seen = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", seen.size, (*PAPER, 255)), seen)
    return image.convert("L" if grey else "RGB")


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]} x {pixels.shape[0]}"


def _resampling() -> Any:
    from PIL import Image

    return Image.Resampling


def _pillow(path: Path) -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise UserError(f"{path} needs the extra data; run: pip install 'addnorm[data]'") from None
    return Image
