"""Pictures that come within a request."""

import base64
import binascii
import hashlib
import io
import re

from PIL import Image

from mm_adapter.core.errors import UserError
from mm_adapter.core.images import FORMATS, open_image
from mm_adapter.serving.jobs import Picture

_DATA_URI = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(;[\w.+-]+=[^;,]*)*(;base64)?,", re.ASCII | re.IGNORECASE)


def read_picture(uri: str, most_pixels: int) -> Picture:
    """Return the picture in a data URI, which can be decoded; what it says of its kind is not relied upon.

    Args:
        most_pixels: bound of width times height, held against the header before anything is decoded.

    Raises:
        UserError: it is no such URI, or no picture that can be read, or larger. Nothing is ever fetched.
    """
    found = _DATA_URI.match(uri)
    if found is None:
        raise UserError(
            f"the picture is given as {uri[:40]!r}; put its bytes into the request, as data:image/png;base64,... "
            "(nothing is fetched from elsewhere)."
        )
    if not found[3]:
        raise UserError("the picture's data URI is not in base64; write it as data:image/png;base64,...")
    try:
        content = base64.b64decode(uri[found.end() :].encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError, ValueError):
        raise UserError(
            "the picture's data URI is damaged: what follows base64, is no base64. Send it again."
        ) from None
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as header:
            width, height = header.size
    except Exception:
        width = height = 0  # whatever it is, the reader below says it
    if width * height > most_pixels:
        raise UserError(
            f"the picture has {width} x {height} pixels, more than the {most_pixels:,} that this server takes. "
            "Scale it down."
        )
    open_image(content)  # whoever cannot be shown is told so now, and not when others wait
    return Picture(content, hashlib.sha256(content).hexdigest())
