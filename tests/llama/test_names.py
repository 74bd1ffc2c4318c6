"""From a name to a model: files, folders, hub ids, and what is said about names that stand for nothing."""

from pathlib import Path

import huggingface_hub
import pytest

from mm_adapter.core.errors import UserError
from mm_adapter.llama.checkpoints.load import load_llama


def test_a_hub_id_is_fetched_into_a_folder(monkeypatch: pytest.MonkeyPatch, tiny_folder: Path) -> None:
    """A hub id goes through huggingface_hub and then reads like any folder; pickles are not asked for."""
    asked = {}

    def snapshot(name: str, allow_patterns: list[str]) -> str:
        asked[name] = allow_patterns
        return str(tiny_folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    loaded = load_llama("owner/name")
    assert loaded.name == "owner/name"
    assert loaded.model.config.vocab_size == 258
    assert not any("bin" in pattern or "pth" in pattern for pattern in asked["owner/name"])


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's error becomes one line that says what to do."""

    def snapshot(name: str, allow_patterns: list[str]) -> str:
        raise OSError("no route\nto host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    with pytest.raises(UserError, match=r"owner/name: cannot be fetched from the hub \(no route\)"):
        load_llama("owner/name")


@pytest.mark.parametrize("name", ["smollm3", "./absent/folder", "/absent/folder", "~/a", "dir/file.gguf", "a/b/c"])
def test_names_that_are_nothing(name: str) -> None:
    """A path that is absent is never sent to the hub."""
    with pytest.raises(UserError, match="no such file or folder"):
        load_llama(name)


def test_files_and_folders_that_are_no_model(tmp_path: Path) -> None:
    """A single file must be GGUF, a folder must hold a known layout."""
    with pytest.raises(UserError, match=r"no config\.json"):
        load_llama(str(tmp_path))
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"")
    with pytest.raises(UserError, match=r"must be \.gguf"):
        load_llama(str(path))
