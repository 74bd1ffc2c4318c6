"""Adapters of the original V1 code come in, and files that are none are refused."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch

from mm_adapter.adapter.formats.official import read_official
from mm_adapter.core.errors import UserError
from mm_adapter.llama import LlamaConfig


def original(**changes: Any) -> dict[str, Any]:
    tensors = {f"layers.{layer}.attention.gate": torch.full((1, 6, 1, 1), 0.1 * layer) for layer in range(4)}
    return {**tensors, "adapter_query.weight": torch.arange(10 * 48.0).view(10, 48), **changes}


def test_rows_and_gates_are_shared_out(tmp_path: Path, tiny_config: LlamaConfig) -> None:
    """L * K rows become L prompts of K; gates of layers below the adapted ones are ignored."""
    torch.save(original(), tmp_path / "adapter.pth")
    adapter = read_official(tmp_path / "adapter.pth", tiny_config, layers=2)
    assert adapter.prompts.shape == (2, 5, 48)
    assert adapter.prompts[1, 0, 0] == 240
    assert adapter.gates is not None
    assert torch.allclose(adapter.gates[:, 0], torch.tensor([0.2, 0.3]))


@pytest.mark.parametrize(
    ("changes", "layers", "message"),
    [
        ({"adapter_query.weight": torch.zeros(10, 40)}, 2, "cannot share"),
        ({}, 3, "cannot share"),
        ({"layers.3.attention.gate": torch.zeros(1, 5, 1, 1)}, 2, r"layers\.3\.attention\.gate is of shape"),
    ],
)
def test_tensors_that_do_not_fit(
    tmp_path: Path, tiny_config: LlamaConfig, changes: dict[str, Any], layers: int, message: str
) -> None:
    """A tensor of another shape is named."""
    torch.save(original(**changes), tmp_path / "adapter.pth")
    with pytest.raises(UserError, match=message):
        read_official(tmp_path / "adapter.pth", tiny_config, layers)


@pytest.mark.parametrize("name", ["adapter_query.weight", "layers.3.attention.gate"])
def test_missing_tensors(tmp_path: Path, tiny_config: LlamaConfig, name: str) -> None:
    """A missing tensor is named."""
    tensors = original()
    del tensors[name]
    torch.save(tensors, tmp_path / "adapter.pth")
    with pytest.raises(UserError, match=f"{name} is missing"):
        read_official(tmp_path / "adapter.pth", tiny_config, 2)


def test_a_checkpoint_of_the_original_training(tmp_path: Path, tiny_config: LlamaConfig) -> None:
    """Optimizer, scaler and arguments that its training saves beside the model are read as words, not run."""
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight])
    weight.sum().backward()
    optimizer.step()
    arguments = argparse.Namespace(lr=9e-3, blr=None, betas=(0.9, 0.95), output_dir=tmp_path, distributed=True, gpu=0)
    content = {
        "model": original(),
        "optimizer": optimizer.state_dict(),
        "epoch": 4,
        "scaler": {"scale": 65536.0, "growth_tracker": 0},
        "args": arguments,
    }
    torch.save(content, tmp_path / "checkpoint-4.pth")
    torch.save(original(), tmp_path / "adapter.pth")
    found, expected = (read_official(tmp_path / name, tiny_config, 2) for name in ("checkpoint-4.pth", "adapter.pth"))
    assert torch.equal(found.prompts, expected.prompts)


class Harmful:
    """Runs a program when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_arguments_that_would_run_something(tmp_path: Path, tiny_config: LlamaConfig) -> None:
    """Whatever hides among the arguments is refused by name, and nothing of it is run."""
    content = {"model": original(), "args": argparse.Namespace(x=Harmful(tmp_path / "ran"))}
    torch.save(content, tmp_path / "checkpoint.pth")
    with pytest.raises(UserError, match=r"nothing in it was run|not a readable file"):
        read_official(tmp_path / "checkpoint.pth", tiny_config, 2)
    assert not (tmp_path / "ran").exists()
