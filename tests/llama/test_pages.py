"""Giving pages back: the file's values come again, and memory that is not the file's is never touched."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from mm_adapter.llama.checkpoints import source as pages
from mm_adapter.llama.checkpoints.source import MappedFile, store_mapped


def mapped(path: Path) -> torch.Tensor:
    save_file({"a": torch.arange(1 << 20, dtype=torch.float32).view(1024, 1024)}, path)
    with safe_open(path, framework="pt") as file:
        return file.get_tensor("a")


def test_values_are_read_again(tmp_path: Path) -> None:
    """What was given back is still what the file says."""
    tensor = mapped(tmp_path / "a.safetensors")
    file = MappedFile(tmp_path / "a.safetensors")
    before = tensor.clone()
    file.release(tensor)
    assert torch.equal(tensor, before)
    stored = store_mapped(tensor, file)
    assert torch.equal(stored.read(3, 700), before[3:700])
    assert torch.equal(stored.load(torch.float16)[0], before.half())
    assert stored.load(torch.float32)[0].data_ptr() == tensor.data_ptr()
    assert stored.load(torch.float16)[1] == stored.load(torch.float32)[1] == stored.digest()


def test_other_memory_is_left_alone(tmp_path: Path) -> None:
    """A library that copies instead of mapping loses nothing."""
    mapped(tmp_path / "a.safetensors")
    own = torch.ones(1 << 20)
    MappedFile(tmp_path / "a.safetensors").release(own)
    assert own.sum() == 1 << 20


def test_where_the_system_has_no_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere than on Linux nothing is given back, and nothing else changes."""
    monkeypatch.setattr(pages.sys, "platform", "darwin")
    tensor = mapped(tmp_path / "a.safetensors")
    stored = store_mapped(tensor, MappedFile(tmp_path / "a.safetensors"))
    assert torch.equal(stored.load(torch.float64)[0], tensor.double())
