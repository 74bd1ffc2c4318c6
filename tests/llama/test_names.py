"""From a name to a model: files, folders, names of the hub, and what is said about names that stand for nothing."""

import subprocess
import sys
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
    loaded = load_llama("hub:owner/name")
    assert loaded.name == "hub:owner/name"
    assert loaded.model.config.vocab_size == 258
    assert not any("bin" in pattern or "pth" in pattern for pattern in asked["owner/name"])


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's error becomes one line that says what to do."""

    def snapshot(name: str, allow_patterns: list[str]) -> str:
        raise OSError("no route\nto host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    with pytest.raises(UserError, match=r"owner/name: cannot be fetched from the hub \(no route\)"):
        load_llama("hub:owner/name")


@pytest.mark.parametrize(
    "name",
    ["smollm3", "./absent/folder", "/absent/folder", "~/a", "dir/file.gguf", "a/b/c", "owner/name", "runs/llama-7b.v2"],
)
def test_names_that_are_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that is absent is never sent to the hub: what is meant there says so."""
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("sent to the hub"))
    with pytest.raises(UserError, match="no such file or folder"):
        load_llama(name)


@pytest.mark.parametrize("name", ["hub:", "hub:name", "hub:a/b/c", "hub:/x", "hub:a/b c"])
def test_names_that_no_model_of_the_hub_can_have(name: str) -> None:
    """What stands behind hub: is an owner and a name."""
    with pytest.raises(UserError, match="hub:owner/name"):
        load_llama(name)


def test_a_mistyped_path_is_refused_before_torch_is_imported() -> None:
    """No command takes longer over it than its start."""
    program = (
        "import sys; from mm_adapter.cli import main; "
        "status = main(sys.argv[1:]); assert status == 2 and 'torch' not in sys.modules, status"
    )
    for arguments in (
        ["answer", "--adapter", "none", "--llama", "models/lama", "--question", "x", "--choices", "a", "b"],
        ["answer", "--adapter", "runs/frist", "--question", "x", "--choices", "a", "b"],
        ["inspect", "models/lama"],
        ["train", "--llama", "models/lama", "--data", "D", "--out", "O"],
        ["convert", "--from", "peft", "--adapter", "x", "--llama", "models/lama", "--out", "O"],
    ):
        done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_files_and_folders_that_are_no_model(tmp_path: Path) -> None:
    """A single file must be GGUF, a folder must hold a known layout."""
    with pytest.raises(UserError, match=r"no config\.json"):
        load_llama(str(tmp_path))
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"")
    with pytest.raises(UserError, match=r"must be \.gguf"):
        load_llama(str(path))
