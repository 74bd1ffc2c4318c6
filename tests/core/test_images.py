"""Any picture file is decoded whole to RGB, or refused by name before it can do harm."""

import hashlib
import os
import struct
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mm_adapter.core.errors import UserError
from mm_adapter.core.images import content_hash, open_image


def saved(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    try:
        Image.open(path).load()
    except OSError:  # Pillow 12.3 and YCbCr in a TIFF
        pytest.skip(f"Pillow {PIL.__version__} cannot read what it writes of mode {image.mode} as {path.suffix}")
    return path


def png_with_size(width: int, height: int) -> bytes:
    """A PNG whose header claims a size that nobody decoded."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "bmp", "tiff", "ppm"])
def test_common_formats_open_as_rgb(tmp_path, suffix):
    image = open_image(saved(tmp_path / f"a.{suffix}", Image.new("RGB", (5, 3), (250, 0, 0))))
    assert (image.mode, image.size) == ("RGB", (5, 3))
    red, green, blue = image.getpixel((2, 1))
    assert red > 240
    assert max(green, blue) < 16


def test_transparent_parts_become_white(tmp_path):
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (10, 20, 30, 255))
    opened = open_image(saved(tmp_path / "a.png", image))
    assert [opened.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (10, 20, 30)]


def test_palette_with_transparency_grey_with_alpha_and_cmyk(tmp_path):
    palette = Image.new("P", (1, 1), 0)
    palette.putpalette([9, 9, 9] * 256)
    assert open_image(saved(tmp_path / "p.png", palette)).getpixel((0, 0)) == (9, 9, 9)
    assert open_image(saved(tmp_path / "t.png", palette, transparency=0)).getpixel((0, 0)) == (255, 255, 255)
    assert open_image(saved(tmp_path / "la.png", Image.new("LA", (1, 1), (0, 0)))).getpixel((0, 0)) == (255, 255, 255)
    assert open_image(saved(tmp_path / "1.png", Image.new("1", (1, 1), 1))).getpixel((0, 0)) == (255, 255, 255)
    red, green, _ = open_image(saved(tmp_path / "c.jpg", Image.new("CMYK", (8, 8), (0, 255, 255, 0)))).getpixel((3, 3))
    assert red > 240
    assert green < 16


def test_sixteen_bit_and_float_greys_are_scaled_not_clipped(tmp_path):
    levels = np.array([[0, 32768, 65535]], dtype=np.uint16)
    sixteen = open_image(saved(tmp_path / "a.png", Image.fromarray(levels)))
    assert [sixteen.getpixel((x, 0))[0] for x in range(3)] == [0, 128, 255]
    floats = open_image(saved(tmp_path / "a.tiff", Image.fromarray(np.array([[-1.0, 0.0, 1.0]], dtype=np.float32))))
    assert [floats.getpixel((x, 0))[0] for x in range(3)] == [0, 128, 255]
    for whole in (1.0, 255.0, 65535.0):
        half = np.array([[0.0, 0.5, 1.0]], dtype=np.float32) * whole
        scaled = open_image(half)
        assert [scaled.getpixel((x, 0))[0] for x in range(3)] == [0, 128, 255]
        assert open_image(saved(tmp_path / "c.tiff", Image.fromarray(half))).tobytes() == scaled.tobytes()
    assert open_image(np.full((2, 2), 0.4)).getpixel((0, 0)) == (102, 102, 102)
    flat = open_image(saved(tmp_path / "b.tiff", Image.fromarray(np.full((2, 2), np.nan, dtype=np.float32))))
    assert flat.getpixel((0, 0)) == (0, 0, 0)


def test_camera_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # Turn a quarter clockwise to view.
    assert open_image(saved(tmp_path / "a.jpg", Image.new("RGB", (6, 2)), exif=exif)).size == (2, 6)


def test_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (3, 3), colour) for colour in ("red", "blue")]
    path = saved(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert open_image(path).getpixel((0, 0)) == (255, 0, 0)


def test_decoded_picture_needs_no_file_any_more(tmp_path):
    path = saved(tmp_path / "a.png", Image.new("RGB", (2, 2), "red"))
    image = open_image(path)
    path.unlink()
    assert image.getpixel((1, 1)) == (255, 0, 0)


def noise(size: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "bmp"])
def test_truncated_picture_is_refused(tmp_path, suffix):
    path = saved(tmp_path / f"a.{suffix}", noise())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=rf"a\.{suffix}: this picture"):
        open_image(path)


@pytest.mark.parametrize(
    "content", [b"", b"hello, I am no picture", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"]
)
def test_what_is_no_picture_is_refused(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.png: this is not an image"):
        open_image(tmp_path / "a.png")


def test_missing_picture_folder_and_pipe_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"b\.png: this picture does not exist"):
        open_image(tmp_path / "b.png")
    with pytest.raises(UserError, match="this is no file"):
        open_image(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UserError, match="this is no file"):
        open_image(tmp_path / "pipe.png")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_picture_is_refused(tmp_path):
    path = saved(tmp_path / "a.png", noise())
    path.chmod(0)
    with pytest.raises(UserError, match="Permission denied"):
        open_image(path)


def test_system_error_carries_the_system_words(tmp_path, monkeypatch):
    path = saved(tmp_path / "a.png", noise())

    def refuse(*_args, **_options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(UserError, match=r"cannot be read \(Permission denied\)"):
        open_image(path)


@pytest.mark.parametrize("size", [(0, 5), (5, 0)])
def test_picture_without_pixels_is_refused(tmp_path, size):
    (tmp_path / "a.png").write_bytes(png_with_size(*size))
    with pytest.raises(UserError, match=r"a\.png: .*0 pixels"):
        open_image(tmp_path / "a.png")


def test_empty_ppm_is_refused_for_its_zero_pixels(tmp_path):
    (tmp_path / "a.bmp").write_bytes(b"P6\n0 4\n255\n")
    with pytest.raises(UserError, match=r"a\.bmp: .*0 pixels"):
        open_image(tmp_path / "a.bmp")


@pytest.mark.parametrize("width", [8001, 10_000, 20_000, 2_000_000])
def test_decompression_bomb_is_refused_from_its_header(tmp_path, monkeypatch, width):
    (tmp_path / "bomb.png").write_bytes(png_with_size(width, 8000))
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("must not be decoded"))
    before = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with pytest.raises(UserError, match="64 megapixels"):
            open_image(tmp_path / "bomb.png")
    assert seen == []
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == before


def test_a_line_is_refused_before_a_tower_scales_it(tmp_path: Path) -> None:
    """Few pixels, but gigabytes once the shorter side is scaled to a tower's input: refused by its shape."""
    Image.new("RGB", (64 * 20, 20)).save(tmp_path / "wide.png")
    assert open_image(tmp_path / "wide.png").size == (1280, 20)
    Image.new("RGB", (20000, 2)).save(tmp_path / "line.png")
    with pytest.raises(UserError, match=r"line\.png.*too narrow"):
        open_image(tmp_path / "line.png")


def test_content_hash_is_the_sha256_of_the_file(tmp_path):
    path = saved(tmp_path / "a.png", noise())
    assert content_hash(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(UserError, match="does not exist"):
        content_hash(tmp_path / "b.png")
    with pytest.raises(UserError, match="cannot be read"):
        content_hash(tmp_path)


def encoded(kind: str) -> bytes:
    buffer = BytesIO()
    noise(16).save(buffer, kind)
    return buffer.getvalue()


GOOD = [encoded(kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP")]


@settings(max_examples=200, deadline=None)
@given(content=st.sampled_from(GOOD), place=st.integers(0, 600), patch=st.binary(min_size=1, max_size=8))
def test_damaged_bytes_give_a_picture_or_a_user_error(tmp_path_factory, content, place, patch):
    path = tmp_path_factory.getbasetemp() / "damaged.img"
    place = min(place, len(content))
    path.write_bytes(content[:place] + patch + content[place + len(patch) :])
    try:
        mode = open_image(path).mode
    except UserError:
        return
    assert mode == "RGB"


def kinds() -> dict[str, Image.Image]:
    """A picture of noise in every mode that files hold."""
    draw = np.random.default_rng(0).integers
    colours = Image.fromarray(draw(0, 256, (20, 30, 3), dtype=np.uint8))
    grey, alpha = colours.convert("L"), Image.fromarray(draw(0, 256, (20, 30), dtype=np.uint8))
    grey_alpha, colours_alpha = grey.copy(), colours.copy()
    grey_alpha.putalpha(alpha)
    colours_alpha.putalpha(alpha)
    return {
        "1": grey.convert("1"),
        "L": grey,
        "LA": grey_alpha,
        "P": colours.quantize(32),
        "P and transparency": colours_alpha.quantize(32),
        "RGB": colours,
        "RGBA": colours_alpha,
        "CMYK": colours.convert("CMYK"),
        "YCbCr": colours.convert("YCbCr"),
        "I;16": Image.fromarray(draw(0, 65536, (20, 30), dtype=np.uint16)),
        "I": Image.fromarray(draw(0, 70000, (20, 30), dtype=np.int32)),
        "F": Image.fromarray(draw(0, 1000, (20, 30)).astype(np.float32) / 7),
    }


@pytest.mark.parametrize("mode", kinds())
def test_a_picture_is_the_same_whatever_it_comes_as(tmp_path, mode):
    """A file, its bytes, the open file, a picture of Pillow's, and an array where one holds all of it."""
    suffix = "png" if mode in ("1", "L", "LA", "P", "P and transparency", "RGB", "RGBA", "I;16") else "tiff"
    path = saved(tmp_path / f"a.{suffix}", kinds()[mode])
    expected = open_image(path).tobytes()
    assert len(set(expected)) > 1
    assert open_image(str(path)).tobytes() == expected
    assert open_image(path.read_bytes()).tobytes() == expected
    with open(path, "rb") as file:
        assert open_image(file).tobytes() == expected
    with Image.open(path) as picture:
        assert open_image(picture).tobytes() == expected
        if picture.mode in ("1", "L", "RGB", "RGBA", "I;16", "I", "F"):
            assert open_image(np.asarray(picture)).tobytes() == expected


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr"])
def test_modes_without_transparency_are_read_as_pillow_reads_them(tmp_path, mode):
    path = saved(tmp_path / ("a.png" if mode in ("1", "L", "P", "RGB") else "a.tiff"), kinds()[mode])
    assert open_image(path).tobytes() == Image.open(path).convert("RGB").tobytes()


@pytest.mark.parametrize(("mode", "plain"), [("La", "LA"), ("RGBa", "RGBA")])
def test_alpha_that_is_multiplied_in_is_shown_as_plain_alpha_is(mode, plain):
    """Pillow has no way from La to colours at all."""
    multiplied = kinds()[plain].convert(mode)
    assert open_image(multiplied).tobytes() == open_image(multiplied.convert(plain)).tobytes()
    assert len(set(open_image(multiplied).tobytes())) > 1


def test_a_turned_picture_is_upright_from_memory_too(tmp_path):
    """The camera's tag is obeyed; a damaged one is passed over, since the pixels are whole."""
    exif = Image.Exif()
    exif[0x112] = 6
    path = saved(tmp_path / "a.jpg", kinds()["RGB"], exif=exif.tobytes())
    assert open_image(path).size == open_image(Image.open(path)).size == (20, 30)
    content = path.read_bytes()
    place = content.index(b"Exif") + 6
    path.write_bytes(content[:place] + b"XXXX" + content[place + 4 :])
    assert open_image(path).size == (30, 20)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("https://example.org/a.png", "this is a URL"),
        (3, "given as int"),
        (None, "given as NoneType"),
        (np.zeros((3, 4, 5)), "shape"),
        (np.full((4, 4, 3), 200.0), "beyond 0 to 1"),
        (np.zeros((4, 4), dtype=complex), "array of complex128"),
        (np.zeros((0, 4, 3), dtype=np.uint8), "0 pixels"),
        (b"no picture", "not an image"),
        (b"", "not an image"),
    ],
)
def test_what_is_no_picture_is_refused_by_name(source, said):
    with pytest.raises(UserError, match=said):
        open_image(source)
