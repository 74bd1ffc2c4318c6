"""The command line run as a person would, and data to break."""

import json
import shutil
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mm_adapter.cli import main


@dataclass(frozen=True)
class Outcome:
    """What a command left: exit status and both streams."""

    status: int
    out: str
    err: str


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Return a function that runs ``mm-adapter`` in this process."""

    def run(*arguments: Any) -> Outcome:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Outcome(status, out, err)

    return run


@pytest.fixture
def refused(command: Callable[..., Outcome]) -> Callable[..., str]:
    """Return a function that runs a command which must fail by one message with exit status 2; returns the message."""

    def run(*arguments: Any) -> str:
        outcome = command(*arguments)
        assert outcome.status == 2, outcome
        assert "Traceback" not in outcome.err
        messages = [line for line in outcome.err.splitlines() if line.startswith("mm-adapter: ")]
        assert len(messages) == 1, outcome.err
        assert outcome.err.strip().endswith(messages[0]), "something stands after the message"
        assert outcome.out == ""
        return messages[0]

    return run


SIZES = {"layers": 2, "prompt-length": 3, "epochs": 1, "warmup-epochs": 0, "batch-size": 8, "max-length": 700}
SMALL = [*(word for name, size in SIZES.items() for word in (f"--{name}", str(size))), "--base-lr", "0.5", "--quiet"]


@pytest.fixture
def small(tiny_folder: Path) -> list[str]:
    """Options of a text-only training of seconds."""
    return ["--llama", str(tiny_folder), "--vision", "none", *SMALL]


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One feature store for all runs with pictures."""
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="session")
def text_run(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path, demo_folder: Path) -> Path:
    """A trained text-only adapter."""
    out = tmp_path_factory.mktemp("text") / "run"
    where = ["--data", str(demo_folder), "--out", str(out), "--llama", str(tiny_folder)]
    assert main(["train", *where, "--vision", "none", *SMALL]) == 0
    return out


@pytest.fixture(scope="session")
def picture_run(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path, demo_folder: Path, store: Path) -> Path:
    """A trained adapter that sees pictures through the default tower."""
    out = tmp_path_factory.mktemp("picture") / "run"
    where = ["--data", str(demo_folder), "--out", str(out), "--llama", str(tiny_folder), "--features", str(store)]
    assert main(["train", *where, *SMALL]) == 0
    return out


@pytest.fixture
def broken_data(tmp_path: Path, demo_folder: Path) -> "BrokenData":
    """A copy of the generated set, to be broken in one place."""
    return BrokenData(shutil.copytree(demo_folder, tmp_path / "data"))


@dataclass(frozen=True)
class BrokenData:
    """Hands for breaking a ScienceQA folder."""

    folder: Path

    def change(self, file: str, edit: Callable[[dict[str, Any]], Any]) -> None:
        """Edit the JSON of problems.json or pid_splits.json in place."""
        path = self.folder / file
        value = json.loads(path.read_text())
        edit(value)
        path.write_text(json.dumps(value))

    def pid(self, split: str = "test", picture: bool = True) -> str:
        """Return the first question of a split with or without a picture."""
        problems = json.loads((self.folder / "problems.json").read_text())
        pids = json.loads((self.folder / "pid_splits.json").read_text())[split]
        return next(pid for pid in pids if (problems[pid]["image"] is not None) == picture)

    def image(self, pid: str, split: str = "test") -> Path:
        """Return where a question's picture is."""
        return self.folder / "images" / split / pid / "image.png"


def png_header(width: int, height: int) -> bytes:
    """A small PNG whose header claims a size that nobody decoded."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.fixture
def make_png() -> Callable[[int, int], bytes]:
    return png_header
