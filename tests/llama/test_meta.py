"""Meta's own layout: consolidated files, read without executing what a pickle may carry."""

import json
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from llama_files import random_llama, write_meta

from mm_adapter.core.errors import UserError
from mm_adapter.inference.inspection import inspect
from mm_adapter.llama import Llama, RopeScaling
from mm_adapter.llama.checkpoints.load import load_llama
from mm_adapter.llama.checkpoints.source import read_tensors


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
    with pytest.raises(UserError, match=r"consolidated\.00\.pth: refused: the file asks for (posix|nt)\.mkdir"):
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


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shards", [2, 4, 8])
def test_shards_are_put_together(tmp_path: Path, shards: int, axis: int) -> None:
    """Every kind of tensor is merged along its own axis; embeddings as Llama 2 or as Llama 3 cut them."""
    model = random_llama(num_heads=8, num_kv_heads=8, head_dim=8)
    loaded = load_llama(str(write_meta(tmp_path, model, shards, axis))).model.state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded[name], tensor), name


def test_shards_have_the_fingerprint_of_one_file(tmp_path: Path, plain_llama: Llama) -> None:
    """An adapter trained on one distribution of the weights fits the other; inspecting reads the same values."""
    whole = load_llama(str(write_meta(tmp_path / "one", plain_llama)))
    folder = write_meta(tmp_path / "two", plain_llama, 2)
    assert load_llama(str(folder), torch.bfloat16).fingerprint == whole.fingerprint
    assert inspect(str(folder)).facts["parameters"] == sum(t.numel() for t in whole.model.parameters())


def test_shards_that_do_not_belong_together(tmp_path: Path, plain_llama: Llama) -> None:
    """A shard that is missing, or of another model, is named."""
    folder = write_meta(tmp_path / "model", plain_llama, 4)
    last = folder / "consolidated.03.pth"
    last.unlink()
    with pytest.raises(UserError, match=r"3 consolidated.*one of 4 parts"):
        load_llama(str(folder))
    write_meta(tmp_path / "other", random_llama(seed=1), 4)
    shutil.copy(tmp_path / "other" / last.name, last)
    with pytest.raises(UserError, match=r"consolidated\.03\.pth: of another model.*norm"):
        load_llama(str(folder))
    write_meta(tmp_path / "wider", random_llama(hidden_size=128), 4)
    shutil.copy(tmp_path / "wider" / last.name, last)
    with pytest.raises(UserError, match=r"consolidated\.03\.pth: of another model.*float32 \(320, 32\) here"):
        load_llama(str(folder))
    (folder / "consolidated.01.pth").unlink()
    with pytest.raises(UserError, match=r"consolidated\.01\.pth is missing"):
        load_llama(str(folder))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": 32}, "dim is 32"),
        ({"n_layers": 3}, "n_layers is 3"),
        ({"vocab_size": 32000}, "vocab_size is 32000"),
        ({"multiple_of": 256}, "width of 256"),
        ({"multiple_of": 32, "ffn_dim_multiplier": 1.3}, "width of 224"),
        ({"n_kv_heads": 4}, "attention.key.weight has shape"),
        ({"n_heads": 0}, "num_heads"),
        ({"norm_eps": "small"}, "norm_epsilon"),
        ({"moe": {"num_experts": 8}}, "mixture of experts"),
    ],
)
def test_parameters_that_contradict_the_tensors(
    tmp_path: Path, plain_llama: Llama, changes: dict[str, Any], message: str
) -> None:
    """params.json of another model is refused by what it says otherwise."""
    with pytest.raises(UserError, match=message):
        load_llama(str(write_meta(tmp_path, plain_llama, **changes)))


def test_what_parameters_leave_unsaid(tmp_path: Path, plain_llama: Llama) -> None:
    """Context and scaling are those of the releases; the feed-forward width follows Meta's own rule."""
    config = load_llama(str(write_meta(tmp_path / "a", plain_llama, rope_theta=500000.0))).model.config
    assert (config.context_length, config.rope_scaling) == (8192, None)
    changes = {"use_scaled_rope": True, "multiple_of": 32, "ffn_dim_multiplier": 0.5}
    config = load_llama(str(write_meta(tmp_path / "b", plain_llama, vocab_size=320, **changes))).model.config
    assert (config.context_length, config.rope_scaling) == (131072, RopeScaling(32.0, 1.0, 4.0, 8192))
    config = load_llama(str(write_meta(tmp_path / "c", plain_llama, rope_scaling_factor=8, **changes))).model.config
    assert config.rope_scaling == RopeScaling(8, 1.0, 4.0, 8192)


def test_archives_that_would_unfold(tmp_path: Path) -> None:
    """Compressed records could be any size in memory; files from before the zip format say what to do."""
    with zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 20))
    with pytest.raises(UserError, match="compressed"):
        read_tensors(tmp_path / "a.pth")
    torch.save({"a": torch.ones(2)}, tmp_path / "b.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(UserError, match=r"before version 1\.6"):
        read_tensors(tmp_path / "b.pth")


def test_shards_and_parameters(tmp_path: Path, plain_llama: Llama) -> None:
    """Absent weights, incomplete parameters and foreign tensors are refused by name."""
    folder = write_meta(tmp_path, plain_llama)
    weights = (folder / "consolidated.00.pth").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"no consolidated\.00\.pth"):
        load_llama(str(folder))
    weights.rename(folder / "consolidated.00.pth")
    for params in ({"dim": 64}, [], {"dim": "64", "n_layers": 2, "n_heads": 4}):
        (folder / "params.json").write_text(json.dumps(params))
        with pytest.raises(UserError, match="dim, n_layers and n_heads"):
            load_llama(str(folder))
    (folder / "params.json").write_text(json.dumps({"dim": 64, "n_layers": 2, "n_heads": 4}))
    torch.save({"weight": torch.ones(2)}, folder / "consolidated.00.pth")
    with pytest.raises(UserError, match=r"tok_embeddings\.weight is missing"):
        load_llama(str(folder))
