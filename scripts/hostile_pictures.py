"""Hostile pictures: bombs, lines, animations, odd modes, damaged files, what is no picture at all."""

import base64
import io
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from hostile_process import ALLOWED, Hostile, Outcome, command, reading
from PIL import Image, ImageOps

from mm_adapter.core.images import MAX_ASPECT, MAX_PIXELS, open_image

Picture = tuple[str, bytes | Callable[[Path], None], bool]
"""Name of the file, its bytes or what makes it, and whether it must be refused."""
_SAVED = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "gif": "GIF", "tiff": "TIFF", "bmp": "BMP"}


def noise(draw: Random, width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Return seeded noise of a size."""
    pixels = np.random.default_rng(draw.randrange(1 << 32)).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    return image if mode == "RGB" else image.convert(mode)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    """Return a picture as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, _SAVED[form], **options)
    return buffer.getvalue()


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _bomb(draw: Random) -> Picture:
    """A header that claims a huge size, with pixels or without."""
    side = draw.choice((9_000, 20_000, 65_000))
    form = draw.choice(("png", "png zeros", "png text", "gif", "tiff", "webp", "bmp", "ppm"))
    width, height = side, draw.choice((side, side - 7))
    if form == "gif":
        start = b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0)
        return (
            f"bomb {form}.gif",
            start + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02L\x01\0;",
            True,
        )
    if form == "bmp":
        head = b"BM" + struct.pack("<IHHI", 54, 0, 0, 54)
        return "bomb.bmp", head + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0), True
    if form == "ppm":
        return "bomb.ppm", b"P6\n%d %d\n255\n" % (width, height) + b"\0" * 100, True
    if form == "webp":
        plain = bytearray(encoded(noise(draw, 8, 8), "webp", lossless=True))
        place = plain.index(b"VP8L") + 9
        plain[place : place + 4] = struct.pack("<I", (16_383) | (16_383 << 14))
        return "bomb.webp", bytes(plain), True
    if form == "tiff":
        entries = ((256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1))
        entries += ((273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, width * height % (1 << 32)))
        body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
        return "bomb.tiff", b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + b"\0" * 4, True
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, draw.choice((0, 2, 6)), 0, 0, 0))
    content = _chunk(b"IDAT", zlib.compress(b"\0" * (30_000_000 if form == "png zeros" else 100)))
    text = _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"\0" * 50_000_000)) if form == "png text" else b""
    return f"bomb {form}.png", b"\x89PNG\r\n\x1a\n" + head + text + content + _chunk(b"IEND", b""), True


def _text_bomb(draw: Random) -> Picture:
    """A small picture with a comment or profile that grows a thousand times when it is read."""
    plain = encoded(noise(draw, 20, 20), "png")
    kind, name = draw.choice(((b"zTXt", b"Comment\0\0"), (b"iCCP", b"Profile\0\0"), (b"iTXt", b"Comment\0\1\0\0\0")))
    chunk = _chunk(kind, name + zlib.compress(b"\0" * draw.choice((1 << 20, 60 << 20))))
    return f"{kind.decode()} bomb.png", plain[:33] + chunk + plain[33:], False


def _line(draw: Random) -> Picture:
    size = draw.choice(((100_000, 1), (1, 60_000), (20_000, 2), (65_000, 1), (64 * 9, 9), (640, 9)))
    form = draw.choice(("png", "tiff", "bmp"))
    return f"line.{form}", encoded(Image.new("RGB", size, "red"), form), max(size) > MAX_ASPECT * min(size)


def _animated(draw: Random) -> Picture:
    form = draw.choice(("gif", "webp", "png", "tiff"))
    frames = [noise(draw, 24, 20) for _ in range(draw.choice((2, 5, 60)))]
    return f"animated.{form}", encoded(frames[0], form, save_all=True, append_images=frames[1:]), False


def _mode(draw: Random) -> Picture:
    """CMYK, 16 bit, floats, alpha, palettes, one bit."""
    mode = draw.choice(("CMYK", "I;16", "I", "F", "LA", "RGBA", "P", "1", "L", "YCbCr", "LAB"))
    if mode in ("I;16", "I", "F"):
        values = np.random.default_rng(draw.randrange(99)).integers(0, 65_536, (20, 30))
        kinds = {"I;16": np.uint16, "I": np.int32, "F": np.float32}
        return f"{mode.replace(';', '')}.tiff", encoded(Image.fromarray(values.astype(kinds[mode])), "tiff"), False
    form = {"CMYK": "jpg", "YCbCr": "jpg", "LAB": "tiff"}.get(mode, "png")
    image = noise(draw, 30, 20)
    if mode in ("LA", "RGBA"):
        image.putalpha(noise(draw, 30, 20, "L"))
    return f"{mode}.{form}", encoded(image.convert(mode), form), False


def _turned(draw: Random) -> Picture:
    exif = Image.Exif()
    turn = draw.choice((1, 2, 3, 4, 5, 6, 7, 8, 0, 9, 65_535))
    exif[0x0112] = turn
    form = draw.choice(("jpg", "png", "webp", "tiff"))
    return f"orientation {turn}.{form}", encoded(noise(draw, 30, 20), form, exif=exif), False


def _truncated(draw: Random) -> Picture:
    form = draw.choice(list(_SAVED))
    content = encoded(noise(draw, 60, 50), form)
    return f"truncated.{form}", content[: draw.randrange(len(content))], False


def _flipped(draw: Random) -> Picture:
    form = draw.choice(list(_SAVED))
    content = bytearray(encoded(noise(draw, 60, 50), form))
    head = draw.random() < 0.5
    for _ in range(draw.randrange(1, 12)):
        content[draw.randrange(min(80, len(content)) if head else len(content))] ^= 1 << draw.randrange(8)
    return f"flipped.{form}", bytes(content), False


def _misnamed(draw: Random) -> Picture:
    form, name = draw.sample(list(_SAVED), 2)
    return f"{form} as.{draw.choice((name, 'txt', 'exe', ''))}", encoded(noise(draw, 30, 20), form), False


def _polyglot(draw: Random) -> Picture:
    """A whole picture that is an archive, a page or a script as well."""
    form = draw.choice(("png", "jpg", "gif"))
    tails = (
        b"<?php system($_GET[0]); ?>",
        b"PK\x03\x04" + b"\0" * 60,
        b"<script>alert(1)</script>",
        b"#!/bin/sh\nid\n",
    )
    return f"polyglot.{form}", encoded(noise(draw, 30, 20), form) + draw.choice(tails) * draw.choice((1, 1000)), False


def _no_picture(draw: Random) -> Picture:
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    entity = b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><svg>&b;</svg>'
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/tmp/canary) (w) file\n"
    pdf = b"%PDF-1.4\n1 0 obj << /Type /Catalog >> endobj\n"
    content = draw.choice((b"", svg, entity, eps, pdf, b"\0" * 5000, b"RIFF\xff\xff\xff\xffWEBP", b"\x89PNG\r\n\x1a\n"))
    return f"none.{draw.choice(('png', 'svg', 'jpg'))}", content, True


def _no_file(draw: Random) -> Picture:
    """A folder, a pipe, a device, a loop of links, a name that cannot be."""
    kind = draw.choice(("folder", "fifo", "zero", "null", "random", "loop", "dangling", "socket"))

    def make(path: Path) -> None:
        if kind == "folder":
            path.mkdir()
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "socket":
            import socket

            with socket.socket(socket.AF_UNIX) as made:
                made.bind(os.path.relpath(path))
        else:
            targets = {"zero": "/dev/zero", "null": "/dev/null", "random": "/dev/urandom", "loop": path.name}
            path.symlink_to(targets.get(kind, "nowhere.png"))

    return f"{kind}.png", make, True


FORMS = (
    *(_bomb, _bomb, _text_bomb, _line, _animated, _mode, _mode, _turned, _truncated, _truncated, _flipped, _flipped),
    *(_misnamed, _polyglot, _no_picture, _no_file),
)


def expected(path: Path) -> Image.Image | None:
    """Return what Pillow alone makes of a file, upright; None where it has to be laid over white or scaled first."""
    with Image.open(path) as image:
        image.load()
        if image.mode in ("RGB", "L", "P", "1", "CMYK", "YCbCr") and "transparency" not in image.info:
            return ImageOps.exif_transpose(image).convert("RGB")
    return None


def _digest(path: Path) -> dict[str, Any]:
    image = open_image(path)
    return {"size": image.size, "mode": image.mode, "crc": zlib.crc32(image.tobytes())}


def _read_right(path: Path) -> Callable[[Outcome], str]:
    def right(found: Outcome) -> str:
        if found.value["mode"] != "RGB" or np.prod(found.value["size"]) > MAX_PIXELS:
            return f"was read as {found.value}"
        try:
            own = expected(path)
        except Exception as error:  # Pillow's own reading; damaged files may be whole enough for one of both
            return f"was read, but Pillow alone cannot ({error})"
        same = own is None or (list(own.size), zlib.crc32(own.tobytes())) == (found.value["size"], found.value["crc"])
        return "" if same else f"has other pixels than Pillow reads: {found.value}, {own and own.size}"

    return right


def chosen(found: Outcome, choices: list[str]) -> str:
    """Return what is wrong with the JSON of ``answer``: choices as given, probabilities that add up to 1."""
    answer = json.loads(found.said.splitlines()[-1])
    told = [item["text"] for item in answer["choices"]]
    share = sum(item["probability"] for item in answer["choices"])
    good = told == choices and abs(share - 1) < 1e-4 and answer["answer"] in choices
    return "" if good else f"answered {answer}, of {choices}"


def _plain(path: Path, folder: Path) -> Path | None:
    """Write what Pillow reads of a picture as a plain one, and return its place; None where it is not comparable."""
    image = expected(path)
    if image is None:
        return None
    (folder / ALLOWED).mkdir(exist_ok=True)
    image.save(folder / ALLOWED / "plain.png")
    return folder / ALLOWED / "plain.png"


def draw_picture(draw: Random, folder: Path, places: dict[str, Any], number: int) -> Hostile:
    """Draw a picture, write it into ``folder``, and say how it is shown: to the reader, the command or the server."""
    name, content, refused = FORMS[number % len(FORMS)](draw)
    path = folder / name.replace(" ", "-")
    content(path) if callable(content) else path.write_bytes(content)
    way = ("reader", "command", "http")[number % 3]  # 3 does not divide the forms: each is shown by each way
    if way == "http" and not callable(content):
        uri = f"data:image/png;base64,{base64.b64encode(content).decode()}"
        return places["ask"](f"picture {name}", {"image": uri}, refused, "http pictures")
    if way == "command":
        words = ("answer", "--adapter", places["sees"], "--image", path, "--question", "What?", "--choices", "a", "b")
        act = command(*words, "--json")

        def right(found: Outcome) -> str:
            plain = _plain(path, folder)
            told = None if plain is None else command(*[plain if word is path else word for word in words], "--json")()
            same = told is None or json.loads(told.said)["choices"] == json.loads(found.said)["choices"]
            return chosen(found, ["a", "b"]) if same else f"answers {found.said!r}; what Pillow reads: {told}"

        return Hostile(f"picture {name}, command", "pictures", act, right, refused, "show")
    return Hostile(
        f"picture {name}, reader", "pictures", reading(lambda: _digest(path)), _read_right(path), refused, "read"
    )


def well_meant(draw: Random, folder: Path, places: dict[str, Any]) -> list[Hostile]:
    """Return photographs of 12 megapixels, by the same ways."""
    path = folder / "photograph.jpg"
    content = encoded(Image.linear_gradient("L").resize((4000, 3000)).convert("RGB"), "jpg")
    path.write_bytes(content)
    words = ("answer", "--adapter", places["sees"], "--image", path, "--question", "What?", "--choices", "a", "b")
    uri = f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
    return [
        Hostile("photograph, reader", "pictures", reading(lambda: _digest(path)), _read_right(path), group="read"),
        Hostile("photograph, command", "pictures", command(*words, "--json"), lambda _: "", group="show"),
        places["ask"]("photograph", {"image": uri}, False, "http pictures"),
    ]
