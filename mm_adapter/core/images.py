"""Pictures from untrusted sources, whatever they come as: decoded whole, or refused by name."""

import contextlib
import hashlib
import io
import os
import threading
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, TypeAlias, Union

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mm_adapter.core.errors import UserError
from mm_adapter.core.files import refuse_pointer

# A header may claim any size: 64 megapixels are 192 MB of RGB, more than any camera picture in these datasets needs.
MAX_PIXELS = 64_000_000
# Towers scale the shorter side to a few hundred pixels: a line of 60,000 x 1 would become gigabytes.
MAX_ASPECT = 64
# Pillow would also hand EPS to Ghostscript and open formats that nobody asks questions about.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")

# `warnings.catch_warnings` swaps one list for the whole process; two threads in it at once would mix it up.
_WARNINGS_LOCK = threading.Lock()


ImageSource: TypeAlias = Union[str, os.PathLike[str], bytes, IO[bytes], np.ndarray, Image.Image]  # noqa: UP007 - a value
"""What a picture may come as: a file by name, its bytes, an open file, an array, or a picture of Pillow's."""


def open_image(source: ImageSource) -> Image.Image:
    """Return a picture as RGB, fully decoded and upright; the same whatever it comes as.

    The camera's orientation tag is applied where it can be read, transparency is laid over white, 16-bit and
    floating-point greys are scaled to 8 bits, and of an animation the first frame is taken.

    Args:
        source: a file name, the bytes of a file, a file opened for reading bytes, a picture of Pillow's, or an array:
            ``(H, W)``, ``(H, W, 1)``, ``(H, W, 3)`` or ``(H, W, 4)`` of bool, uint8, or uint16 and float for greys;
            colours in float are 0 to 1.

    Raises:
        UserError: the file is missing, unreadable, truncated, no picture, empty, or larger than ``MAX_PIXELS``
            (checked in the header, before anything is decoded); or the source is of another kind.
    """
    if isinstance(source, Image.Image):
        return _decoded("the picture", lambda: contextlib.nullcontext(source))
    if isinstance(source, np.ndarray):
        return _of_array(source)
    if isinstance(source, bytes | bytearray | memoryview):
        content = io.BytesIO(source)
        return _decoded("the picture in bytes", lambda: _read_header(content))
    if isinstance(source, str) and source.startswith(("http://", "https://", "data:")):
        raise UserError(f"{source[:80]}: this is a URL, not a file; download the picture and give its file or bytes.")
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        return _decoded(str(path), lambda: _read_file(path))
    if callable(getattr(source, "read", None)):
        return _decoded(str(getattr(source, "name", "the open file")), lambda: _read_header(source))
    raise UserError(
        f"a picture is given as {type(source).__name__}; give a file name, bytes, an open file, an array of NumPy or "
        "a picture of Pillow."
    )


def _decoded(name: str, read: Callable[[], AbstractContextManager[Image.Image]]) -> Image.Image:
    """Return what ``read`` opens as RGB; ``name`` stands in messages.

    Raises:
        UserError: it cannot be decoded.
    """
    try:
        with read() as image:
            _check_size(name, image)
            image.load()
            return _to_rgb(_upright(image))
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{name}: this picture does not exist. Check the path.") from None
    except Image.DecompressionBombError:
        raise _too_large(name) from None
    except UnidentifiedImageError:
        refuse_pointer(Path(name))
        raise UserError(
            f"{name}: this is not an image of a known format, or it has 0 pixels. Use a PNG, JPEG or WebP."
        ) from None
    except MemoryError:
        raise UserError(f"{name}: there is not enough memory to decode this picture. Scale it down.") from None
    except OSError as error:
        # Errors of the system carry its words; those of decoders ("image file is truncated") only their own.
        reason = error.strerror or str(error)
        raise UserError(f"{name}: this picture cannot be read ({reason}). Replace the file.") from error
    except Exception as error:
        # Pillow's format plugins meet hostile bytes with SyntaxError, struct.error, IndexError, zlib.error and more.
        raise UserError(
            f"{name}: this picture is damaged ({error or type(error).__name__}). Replace the file."
        ) from error


def _upright(image: Image.Image) -> Image.Image:
    """Return the picture turned as its camera says; as it is where the tag cannot be read over whole pixels."""
    try:
        return ImageOps.exif_transpose(image)
    except MemoryError:
        raise
    except Exception:
        return image


def _of_array(array: np.ndarray) -> Image.Image:
    """Return the picture in an array.

    Raises:
        UserError: shape, type or values are not those of a picture.
    """
    pixels = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)):
        raise UserError(
            f"a picture is an array of shape {array.shape}; it must be (height, width), or (height, width, channels) "
            "with 1, 3 or 4 channels."
        )
    kind = pixels.dtype.kind
    if pixels.ndim == 3 and kind == "f":
        if not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1):
            raise UserError("a picture is an array of floats beyond 0 to 1; scale them, or give uint8.")
        pixels = (pixels * 255).round().astype(np.uint8)
    if not (pixels.dtype in (np.uint8, np.bool_) or (pixels.ndim == 2 and (kind == "f" or pixels.dtype.itemsize <= 4))):
        raise UserError(f"a picture is an array of {array.dtype} of shape {array.shape}; give uint8.")
    if pixels.ndim == 2 and pixels.dtype not in (np.uint8, np.bool_):
        pixels = pixels.astype(np.float32 if kind == "f" else np.uint16 if pixels.dtype == np.uint16 else np.int32)
    return _decoded("the picture", lambda: contextlib.nullcontext(Image.fromarray(pixels)))


def content_hash(path: Path) -> str:
    """Return the SHA-256 of the file's bytes, in hexadecimal.

    Raises:
        UserError: the file is missing or unreadable.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: this picture cannot be read (it is not a regular file). Replace it.")
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except FileNotFoundError:
        raise UserError(f"{path}: this picture does not exist. Check the path.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: this picture cannot be read ({reason}). Check the file.") from error
    return digest.hexdigest()


def _read_file(path: Path) -> Image.Image:
    # A pipe or device instead of a file would be read without end.
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: this is no file, so no picture. Give a picture file.")
    return _read_header(path)


def _read_header(source: Any) -> Image.Image:
    # Pillow warns from 89 megapixels on and refuses from 179 on; our own lower bound comes right after.
    with _WARNINGS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(source, formats=FORMATS)


def _check_size(name: str, image: Image.Image) -> None:
    if image.width * image.height == 0:
        raise UserError(f"{name}: this picture has 0 pixels. Replace the file.")
    if image.width * image.height > MAX_PIXELS:
        raise _too_large(name, f" of {image.width} x {image.height}")
    if max(image.size) > MAX_ASPECT * min(image.size):
        raise UserError(
            f"{name}: this picture of {image.width} x {image.height} is too narrow to be shown to a tower. Crop it."
        )


def _too_large(name: str, size: str = "") -> UserError:
    return UserError(
        f"{name}: this picture{size} has more than {MAX_PIXELS // 1_000_000} megapixels, which may be a "
        "decompression bomb. Scale it down."
    )


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        # convert("L") would clip these at 255 and make a 16-bit picture all white.
        return Image.fromarray(_to_eight_bits(np.asarray(image))).convert("RGB")
    if image.mode in ("LA", "PA", "La", "RGBa") or "transparency" in image.info or image.mode == "RGBA":
        # Pillow knows no way from grey with its alpha multiplied in to colours but by plain grey and alpha.
        layer = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _to_eight_bits(values: np.ndarray) -> np.ndarray:
    """Return 0-255: of values from 0 by the scale that they fit, 0-1 (floats), 0-255 or 0-65535; else by their own."""
    wide = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(wide.min()), float(wide.max())
    if low >= 0 and high <= 65535:
        scales = (1.0, 255.0, 65535.0) if values.dtype.kind == "f" else (255.0, 65535.0)
        low, high = 0.0, next(scale for scale in scales if high <= scale)
    scaled = (wide - low) * (255.0 / (high - low)) if high > low else np.zeros_like(wide)
    return scaled.round().astype(np.uint8)
