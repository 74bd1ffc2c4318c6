"""Meta's own layout: one consolidated file, read without executing what a pickle may carry."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from llama_files import random_llama, write_meta

from mm_adapter.errors import UserError
from mm_adapter.llama import Llama
from mm_adapter.llama.meta import read_tensors
from mm_adapter.llama.weights import load_llama


class Payload:
    """Pickled, it makes a folder when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("tied", [False, True])
def test_logits_equal_the_model_that_was_written(tmp_path: Path, tied: bool) -> None:
    """Names and rotary layout survive; a missing output tensor means a tied head."""
    model = random_llama(tied_embeddings=tied)
    loaded = load_llama(str(write_meta(tmp_path, model))).model
    tokens = torch.arange(24).view(2, 12)
    assert (loaded(tokens) - model(tokens)).abs().max() < 1e-5


def test_pickled_code_is_not_executed(tmp_path: Path, plain_llama: Llama) -> None:
    """A weight file with code in it is refused, and the code never runs."""
    folder = write_meta(tmp_path / "model", plain_llama)
    torch.save({"tok_embeddings.weight": Payload(tmp_path / "executed")}, folder / "consolidated.00.pth")
    with pytest.raises(UserError, match=r"consolidated\.00\.pth"):
        load_llama(str(folder))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("keep", [0, 10, 0.5, -1])
def test_truncated_file(tmp_path: Path, plain_llama: Llama, keep: float) -> None:
    """A file that was cut anywhere is refused by name."""
    path = write_meta(tmp_path, plain_llama) / "consolidated.00.pth"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep) if isinstance(keep, float) else int(keep)])
    with pytest.raises(UserError, match="not a readable file of tensors"):
        load_llama(str(tmp_path))


def test_files_of_tensors(tmp_path: Path) -> None:
    """Tensors may stand under a key "model"; anything else by name is refused."""
    torch.save({"model": {"a": torch.ones(2)}}, tmp_path / "a.pth")
    assert torch.equal(read_tensors(tmp_path / "a.pth")["a"], torch.ones(2))
    for content in ([torch.ones(2)], {"a": 3}):
        torch.save(content, tmp_path / "b.pth")
        with pytest.raises(UserError, match="other than tensors"):
            read_tensors(tmp_path / "b.pth")
    with pytest.raises(UserError, match="no such file"):
        read_tensors(tmp_path / "absent.pth")


def test_shards_and_parameters(tmp_path: Path, plain_llama: Llama) -> None:
    """Model-parallel shards, incomplete parameters and foreign tensors are refused by name."""
    folder = write_meta(tmp_path, plain_llama)
    (folder / "consolidated.01.pth").write_bytes(b"")
    with pytest.raises(UserError, match=r"2 consolidated"):
        load_llama(str(folder))
    (folder / "consolidated.01.pth").unlink()
    for params in ({"dim": 64}, [], {"dim": "64", "n_layers": 2, "n_heads": 4}):
        (folder / "params.json").write_text(json.dumps(params))
        with pytest.raises(UserError, match="dim, n_layers and n_heads"):
            load_llama(str(folder))
    (folder / "params.json").write_text(json.dumps({"dim": 64, "n_layers": 2, "n_heads": 4}))
    torch.save({"weight": torch.ones(2)}, folder / "consolidated.00.pth")
    with pytest.raises(UserError, match=r"tok_embeddings\.weight is missing"):
        load_llama(str(folder))
