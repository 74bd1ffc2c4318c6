"""The cache folder: everything in it is counted once, and nothing but that is ever deleted."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mm_adapter.core.cache import KINDS
from mm_adapter.core.files import EFFICIENTNET_LITE0, SMOLLM2_135M

FILES = {
    "features/efficientnet-lite0-a55e89487e9c.safetensors": ("features", 100),
    "features/ViT-B-16-openai-6052e821e392/889304ae1f867dc2.safetensors": ("features", 20),
    f"features/.timm-x-a55e89487e9c.safetensors.{'k' * 8}": ("features", 3),
    f"images/ab/ab{'0' * 62}": ("images", 1000),
    f"urls/{'c' * 64}": ("downloads", 50_000),
    f"{SMOLLM2_135M.sha256[:16]}/model.gguf": ("model", 7),
    f"{EFFICIENTNET_LITE0.sha256[:16]}/tower.pth": ("model", 8),
    "fcb51b309b78c7b0/easy-vqa-1.0.whl": ("datasets", 300),
    "fcb51b309b78c7b0/test/1.png": ("datasets", 9),
}
# Of somebody who let MM_ADAPTER_CACHE be a folder of theirs.
OTHERS = ("images/holiday.jpg", "images/ab/me.png", "features/notes.txt", "urls/list.txt", "thesis.pdf", "models/x.bin")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder with files of every kind, and some that are not ours."""
    place = tmp_path / "cache"
    for name, size in [*((name, size) for name, (_, size) in FILES.items()), *((name, 5) for name in OTHERS)]:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(b"x" * size)
    monkeypatch.setenv("MM_ADAPTER_CACHE", str(place))
    return place


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_everything_is_counted_once(command: Callable[..., Any], folder: Path) -> None:
    """Files and bytes by kind, for people and for programs."""
    found = json.loads(command("cache", "list", "--json").out)
    for kind in KINDS:
        own = [size for named, size in FILES.values() if named == kind]
        assert found["kinds"][kind] == {"files": len(own), "bytes": sum(own)}
    assert found["bytes"] == sum(size for _, size in FILES.values())
    assert found["folder"] == str(folder)
    text = command("cache", "list", "downloads").out
    assert "50.0 kB" in text
    assert "features" not in text


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_cleared_alone(command: Callable[..., Any], folder: Path, kind: str) -> None:
    """What is of the kind is gone, with the folders that it leaves empty; all else is there."""
    done = command("cache", "clear", kind, "--yes")
    assert done.status == 0
    assert "deleted" in done.out
    assert files(folder) == {name for name, (named, _) in FILES.items() if named != kind} | set(OTHERS)
    assert not [path for path in folder.rglob("*") if path.is_dir() and not any(path.iterdir())]
    assert json.loads(command("cache", "list", kind, "--json").out)["bytes"] == 0


def test_all_leaves_what_is_not_ours(command: Callable[..., Any], folder: Path) -> None:
    """A folder that holds other things too keeps them."""
    assert command("cache", "clear", "all", "--yes").status == 0
    assert files(folder) == set(OTHERS)


def test_nothing_is_deleted_without_yes(refused: Callable[..., str], folder: Path) -> None:
    """It says what would be, and how to do it."""
    before = files(folder)
    message = refused("cache", "clear", "features", "images")
    assert "3 files of features, 1 files of images (1.1 kB) would be deleted. Say --yes" in message
    assert files(folder) == before


def test_links_are_not_followed(command: Callable[..., Any], folder: Path, tmp_path: Path) -> None:
    """Of a link that is in the cache the link goes; a folder of ours that is a link is left alone."""
    outside = tmp_path / "outside"
    (outside / "ab").mkdir(parents=True)
    for name in (f"ab/ab{'1' * 62}", "file"):
        (outside / name).write_bytes(b"x" * 77)
    (folder / "urls" / ("d" * 64)).symlink_to(outside / "file")
    (folder / "features" / "linked-a55e89487e9c").symlink_to(outside)
    shutil.rmtree(folder / "images")
    (folder / "images").symlink_to(outside)
    found = json.loads(command("cache", "clear", "all", "--yes", "--json").out)
    assert found["kinds"]["downloads"]["files"] == 2
    assert files(outside) == {f"ab/ab{'1' * 62}", "file"}
    assert not (folder / "urls" / ("d" * 64)).is_symlink()


def test_a_cache_that_is_not_there(
    command: Callable[..., Any], refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is 0 bytes, and is not made by looking."""
    monkeypatch.setenv("MM_ADAPTER_CACHE", str(tmp_path / "none"))
    assert json.loads(command("cache", "list", "--json").out)["bytes"] == 0
    assert command("cache", "clear", "all", "--yes").status == 0
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["clear"], "clear what? Name kinds: features, images"),
        (["clear", "imags", "--yes"], "there is no kind 'imags', did you mean 'images'?"),
        (["list", "--yes"], "--yes is of clear"),
        (["lst"], "did you mean 'list'?"),
    ],
)
def test_mistakes(refused: Callable[..., str], words: list[str], said: str) -> None:
    """Each is told by its name."""
    assert said in refused("cache", *words)
