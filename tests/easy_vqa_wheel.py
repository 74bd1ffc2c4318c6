"""A wheel of easy-VQA's layout with drawn pictures, and a stand-in for pip that serves it."""

import io
import json
import subprocess
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image, ImageDraw

from mm_adapter.core import files
from mm_adapter.core.files import WheelFile, file_sha256
from mm_adapter.data import easy_vqa

FOLDER = "easy_vqa/data"
SHAPES = ("circle", "rectangle", "triangle")
COLOURS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
ANSWERS = (*SHAPES, *COLOURS, "yes", "no")
Edit = Callable[[dict[str, Any]], Any]


def members(train: int = 20, test: int = 5) -> dict[str, Any]:
    """Return the wheel's members, questions as lists: four about every picture; pictures differ."""
    found: dict[str, Any] = {"easy_vqa/__init__.py": b"raise SystemExit('run')", f"{FOLDER}/answers.txt": ANSWERS}
    for split, count in (("train", train), ("test", test)):
        questions = []
        for number in range(count):
            colour, shape = COLOURS[number % 8], SHAPES[number % 3]
            buffer = io.BytesIO()
            place = number + 3 * (split == "test")
            image, box = Image.new("RGB", (64, 64), "white"), (4 + place, 4, 34 + place, 34)
            drawing = ImageDraw.Draw(image)
            if shape == "triangle":
                drawing.polygon([(box[0], box[3]), (box[2], box[3]), (box[0] + 15, box[1])], fill=colour)
            else:
                (drawing.ellipse if shape == "circle" else drawing.rectangle)(box, fill=colour)
            image.save(buffer, "PNG")
            found[f"{FOLDER}/{split}/images/{number}.png"] = buffer.getvalue()
            questions += [
                ["what color is the shape?", colour, number],
                ["what shape is present?", shape, number],
                ["is there a red shape in the image?", "yes" if colour == "red" else "no", number],
                ["is no circle present?", "no" if shape == "circle" else "yes", number],
            ]
        found[f"{FOLDER}/{split}/questions.json"] = questions
    return found


def write_wheel(path: Path, content: Mapping[str, Any]) -> Path:
    """Write members as a wheel: bytes as they are, answers a line each, anything else as JSON."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in content.items():
            if name.endswith("answers.txt") and not isinstance(value, bytes):
                value = "\n".join(value) + "\n"
            archive.writestr(name, value if isinstance(value, bytes | str) else json.dumps(value))
    return path


def serve(patch: pytest.MonkeyPatch, wheel: Path) -> tuple[WheelFile, list[list[str]]]:
    """Let pip download this wheel, and its digest be the expected one; return what is to be read and pip's calls."""
    calls: list[list[str]] = []

    def run(command: list[str], **_: Any) -> SimpleNamespace:
        calls.append(command)
        target = Path(command[command.index("--dest") + 1]) / "easy_vqa-1.0-py3-none-any.whl"
        target.write_bytes(wheel.read_bytes())
        return SimpleNamespace(returncode=0, stderr="")

    patch.setattr(files, "subprocess", SimpleNamespace(run=run, PIPE=subprocess.PIPE))
    source = replace(easy_vqa.WHEEL, sha256=file_sha256(wheel))
    patch.setattr(easy_vqa, "WHEEL", source)
    return source, calls
