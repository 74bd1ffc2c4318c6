"""GGUF files that were split: all parts beside each other are the model, and what lacks is named."""

import shutil
from pathlib import Path

import gguf
import pytest
import torch
from gguf import GGUFReader
from llama_files import write_gguf

from mm_adapter.core.errors import UserError
from mm_adapter.llama import Llama
from mm_adapter.llama.checkpoints.load import load_llama


def split(whole: Path, folder: Path, most: int, small_first: bool) -> list[Path]:
    """Write the tensors and metadata of a file in parts, with the package's own writer."""
    reader = GGUFReader(whole)
    writer = gguf.GGUFWriter(None, "llama", split_max_tensors=most, small_first_shard=small_first)
    for name, field in reader.fields.items():
        if not name.startswith(("GGUF.", "general.architecture")):
            writer.add_key_value(name, field.contents(), field.types[0])
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file(folder / "m.gguf")
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(folder.glob("m-*.gguf"))


@pytest.fixture
def whole(tmp_path: Path, plain_llama: Llama) -> Path:
    """A file in one piece."""
    return write_gguf(tmp_path / "whole.gguf", plain_llama)


@pytest.mark.parametrize("small_first", [False, True])
def test_any_part_is_the_model(tmp_path: Path, whole: Path, plain_llama: Llama, small_first: bool) -> None:
    """Each part and their folder give the logits and fingerprint of the whole file, as llama.cpp opens it."""
    folder = tmp_path / "parts"
    folder.mkdir()
    parts = split(whole, folder, 8, small_first)
    assert len(parts) == (4 if small_first else 3)
    tokens, expected = torch.arange(12)[None], load_llama(str(whole))
    for path in (*parts, folder):
        loaded = load_llama(str(path))
        assert loaded.fingerprint == expected.fingerprint
        assert torch.equal(loaded.model(tokens), expected.model(tokens))


def test_what_lacks_is_named(tmp_path: Path, whole: Path) -> None:
    """A part alone, a part under another name, and a part of another model are refused with what to do."""
    folder = tmp_path / "parts"
    folder.mkdir()
    parts = split(whole, folder, 8, False)
    shutil.copy(parts[1], tmp_path / "renamed.gguf")
    with pytest.raises(
        UserError, match=r"part 2 of 3 .* does not end in -00002-of-00003\.gguf.*llama-gguf-split --merge"
    ):
        load_llama(str(tmp_path / "renamed.gguf"))
    kept = parts[1].read_bytes()
    shutil.copy(parts[2], parts[1])
    with pytest.raises(UserError, match=r"00002-of-00003\.gguf: not a part of the same model"):
        load_llama(str(parts[0]))
    parts[1].unlink()
    for path in (parts[0], parts[2], folder):
        with pytest.raises(UserError, match=r"part [13] of 3 .*m-00002-of-00003\.gguf missing"):
            load_llama(str(path))
    parts[1].write_bytes(kept[: len(kept) // 2])
    with pytest.raises(UserError, match=r"00002-of-00003\.gguf: not a readable GGUF"):
        load_llama(str(folder))
