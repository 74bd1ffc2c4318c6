"""Files that Git LFS left in the place of the real ones are told as such, whatever file of a model they stand for."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from llama_files import random_llama, write_gguf, write_meta
from safetensors.torch import load_file, save_file

from mm_adapter.adapter.checkpoint import read_weights
from mm_adapter.core.errors import UserError
from mm_adapter.core.files import write_atomically
from mm_adapter.llama.checkpoints.load import load_llama
from mm_adapter.llama.tokenizers.tokenizer_files import read_tokenizer

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 337760\n".format("0a" * 32)


def sharded(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    places = {name: f"part-{index % 2}.safetensors" for index, name in enumerate(names)}
    for file in set(places.values()):
        save_file({name: tensors[name] for name in names if places[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


@pytest.mark.parametrize(
    "name",
    ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"],
)
def test_files_of_a_folder(tmp_path: Path, tiny_folder: Path, name: str) -> None:
    """The file is named, with what fetches it."""
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    (folder / name).write_text(POINTER)
    with pytest.raises(UserError, match=rf"{name}: is a Git LFS pointer.*git lfs pull"):
        load_llama(str(folder))


@pytest.mark.parametrize("name", ["part-1.safetensors", "model.safetensors.index.json", "pytorch_model.bin"])
def test_weights_in_other_files(tmp_path: Path, tiny_folder: Path, name: str) -> None:
    """A shard, the index of shards and pickled weights."""
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    if name.endswith(".bin"):
        (folder / "model.safetensors").unlink()
    else:
        sharded(folder)
    (folder / name).write_text(POINTER)
    with pytest.raises(UserError, match=rf"{name}: is a Git LFS pointer"):
        load_llama(str(folder))


def test_other_formats(tmp_path: Path) -> None:
    """Meta's shards, GGUF files, a tokenizer.model and an adapter's weights."""
    write_meta(tmp_path / "meta", random_llama())
    write_gguf(tmp_path / "m.gguf", random_llama())
    opened: dict[Path, Callable[[Path], Any]] = {
        tmp_path / "meta" / "consolidated.00.pth": lambda path: load_llama(str(path.parent)),
        tmp_path / "m.gguf": lambda path: load_llama(str(path)),
        tmp_path / "tokenizer.model": lambda path: read_tokenizer(path.parent, ()),
        tmp_path / "adapter_model.safetensors": read_weights,
    }
    for path, read in opened.items():
        path.write_text(POINTER)
        with pytest.raises(UserError, match=rf"{path.name}: is a Git LFS pointer"):
            read(path)


def test_an_unwritable_cache_is_told_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who cannot write the cache is told of its variable, who cannot write a result of --out."""
    monkeypatch.setenv("MM_ADAPTER_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").write_text("a file in the way")
    with pytest.raises(UserError, match="set MM_ADAPTER_CACHE"):
        write_atomically(tmp_path / "cache" / "a" / "b", lambda path: None)
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match="choose another --out"):
        write_atomically(tmp_path / "out" / "a", lambda path: None)
