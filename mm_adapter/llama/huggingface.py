"""Reader of a Hugging Face folder: config.json, weights (safetensors or .bin, one file or sharded), tokenizer."""

import re
from collections.abc import Iterator
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from mm_adapter.errors import UserError
from mm_adapter.files import read_json
from mm_adapter.llama.chat import read_chat_template
from mm_adapter.llama.huggingface_config import read_config
from mm_adapter.llama.pages import MappedFile
from mm_adapter.llama.source import StoredTensor, WeightSource, store_mapped
from mm_adapter.llama.tokenizer_files import read_tokenizer
from mm_adapter.llama.torch_files import read_tensors

_FIXED_NAMES = {
    "model.embed_tokens.weight": "embedding.weight",
    "model.norm.weight": "norm.weight",
    "lm_head.weight": "head.weight",
}
_LAYER_NAMES = {
    "input_layernorm": "attention_norm",
    "self_attn.q_proj": "attention.query",
    "self_attn.k_proj": "attention.key",
    "self_attn.v_proj": "attention.value",
    "self_attn.o_proj": "attention.output",
    "post_attention_layernorm": "mlp_norm",
    "mlp.gate_proj": "mlp.gate",
    "mlp.up_proj": "mlp.up",
    "mlp.down_proj": "mlp.down",
}


def open_huggingface(folder: Path) -> WeightSource:
    """Open a folder in the layout of ``transformers``.

    Raises:
        UserError: a file is missing or damaged, or the model is not a LLaMA.
    """
    config = read_config(folder / "config.json")
    return WeightSource(
        layout="Hugging Face",
        config=config,
        tensors=lambda: _tensors(folder, config.tied_embeddings),
        tokenizer=lambda: read_tokenizer(folder, config.end_tokens),
        chat_template=lambda: read_chat_template(folder),
    )


def _tensors(folder: Path, tied: bool) -> Iterator[tuple[str, StoredTensor]]:
    for path in _weight_files(folder):
        read = _read_safetensors if path.suffix == ".safetensors" else _read_torch
        for name, tensor, file in read(path):
            canonical = _canonical_name(name)
            tied_copy = canonical == "head.weight" and tied
            if tied_copy or name.endswith("rotary_emb.inv_freq"):
                continue
            if not tensor.is_floating_point():
                raise UserError(f"{path}: {name} has dtype {tensor.dtype}; quantised weights are read from GGUF alone.")
            yield canonical, store_mapped(tensor, file)


def _read_safetensors(path: Path) -> Iterator[tuple[str, Tensor, MappedFile]]:
    try:
        with safe_open(path, framework="pt") as content:
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 - not a mapping
    except Exception as error:  # a header may name dtypes and shapes at which torch fails in its own ways
        raise UserError(f"{path}: not a readable safetensors file ({error}). Fetch it again.") from error
    file = MappedFile(path)
    yield from ((name, tensor, file) for name, tensor in tensors.items())


def _read_torch(path: Path) -> Iterator[tuple[str, Tensor, MappedFile]]:
    tensors = read_tensors(path)
    file = MappedFile(path)
    yield from ((name, tensor, file) for name, tensor in tensors.items())


def _weight_files(folder: Path) -> list[Path]:
    for stem in ("model.safetensors", "pytorch_model.bin"):
        if (folder / stem).is_file():
            return [folder / stem]
        if (folder / f"{stem}.index.json").is_file():
            return _shards(folder / f"{stem}.index.json")
    raise UserError(
        f"{folder}: no weights: neither model.safetensors nor pytorch_model.bin is there, whole or with an index."
    )


def _shards(index: Path) -> list[Path]:
    content = read_json(index, "index of weight shards")
    shards = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise UserError(f"{index}: has no weight_map of tensor names to files.")
    names = sorted(set(shards.values()))
    for name in names:
        if Path(name).name != name or "\0" in name:
            raise UserError(f"{index}: the shard {name!r} leaves the model's folder; refused.")
        if not name.endswith((".safetensors", ".bin")):
            raise UserError(f"{index}: the shard {name!r} is neither .safetensors nor .bin.")
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise UserError(
            f"{index}: no such weight file: {', '.join(missing)} (of {len(names)} shards). Complete the folder."
        )
    return [index.parent / name for name in names]


def _canonical_name(name: str) -> str:
    match = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.(weight|bias)", name)
    if match and match[2] in _LAYER_NAMES:
        return f"layers.{match[1]}.{_LAYER_NAMES[match[2]]}.{match[3]}"
    return _FIXED_NAMES.get(name, name)
