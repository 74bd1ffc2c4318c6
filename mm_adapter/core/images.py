"""Pictures from untrusted files: decoded whole, or refused by name."""

import hashlib
import threading
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mm_adapter.core.errors import UserError

# A header may claim any size: 64 megapixels are 192 MB of RGB, more than any camera picture in these datasets needs.
MAX_PIXELS = 64_000_000
# Towers scale the shorter side to a few hundred pixels: a line of 60,000 x 1 would become gigabytes.
MAX_ASPECT = 64
# Pillow would also hand EPS to Ghostscript and open formats that nobody asks questions about.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")

# `warnings.catch_warnings` swaps one list for the whole process; two threads in it at once would mix it up.
_WARNINGS_LOCK = threading.Lock()


def open_image(path: Path) -> Image.Image:
    """Return the picture in ``path`` as RGB, fully decoded and upright.

    The camera's orientation tag is applied, transparency is laid over white, 16-bit and floating-point greys are
    scaled to 8 bits, and of an animation the first frame is taken.

    Raises:
        UserError: the file is missing, unreadable, truncated, no picture, empty, or larger than ``MAX_PIXELS``
            (checked in the header, before anything is decoded).
    """
    path = Path(path)
    try:
        # A pipe or device instead of a file would be read without end.
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: this is no file, so no picture. Give a picture file.")
        with _read_header(path) as image:
            _check_size(path, image)
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: this picture does not exist. Check the path.") from None
    except Image.DecompressionBombError:
        raise _too_large(path) from None
    except UnidentifiedImageError:
        raise UserError(
            f"{path}: this is not an image of a known format, or it has 0 pixels. Use a PNG, JPEG or WebP."
        ) from None
    except MemoryError:
        raise UserError(f"{path}: there is not enough memory to decode this picture. Scale it down.") from None
    except OSError as error:
        # Errors of the system carry its words; those of decoders ("image file is truncated") only their own.
        reason = error.strerror or str(error)
        raise UserError(f"{path}: this picture cannot be read ({reason}). Replace the file.") from error
    except Exception as error:
        # Pillow's format plugins meet hostile bytes with SyntaxError, struct.error, IndexError, zlib.error and more.
        raise UserError(
            f"{path}: this picture is damaged ({error or type(error).__name__}). Replace the file."
        ) from error


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


def _read_header(path: Path) -> Image.Image:
    # Pillow warns from 89 megapixels on and refuses from 179 on; our own lower bound comes right after.
    with _WARNINGS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(path, formats=FORMATS)


def _check_size(path: Path, image: Image.Image) -> None:
    if image.width * image.height == 0:
        raise UserError(f"{path}: this picture has 0 pixels. Replace the file.")
    if image.width * image.height > MAX_PIXELS:
        raise _too_large(path, f" of {image.width} x {image.height}")
    if max(image.size) > MAX_ASPECT * min(image.size):
        raise UserError(
            f"{path}: this picture of {image.width} x {image.height} is too narrow to be shown to a tower. Crop it."
        )


def _too_large(path: Path, size: str = "") -> UserError:
    return UserError(
        f"{path}: this picture{size} has more than {MAX_PIXELS // 1_000_000} megapixels, which may be a "
        "decompression bomb. Scale it down."
    )


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        # convert("L") would clip these at 255 and make a 16-bit picture all white.
        return Image.fromarray(_to_eight_bits(np.asarray(image))).convert("RGB")
    if image.mode in ("LA", "PA", "La", "RGBa") or "transparency" in image.info or image.mode == "RGBA":
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _to_eight_bits(values: np.ndarray) -> np.ndarray:
    """Return 0-255 of 16-bit integers (their full range is 0-65535), or of others by their own range."""
    wide = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(wide.min()), float(wide.max())
    if values.dtype.kind in "iu" and low >= 0 and high <= 65535:
        low, high = 0.0, 65535.0 if high > 255 else 255.0
    scaled = (wide - low) * (255.0 / (high - low)) if high > low else np.zeros_like(wide)
    return scaled.round().astype(np.uint8)
