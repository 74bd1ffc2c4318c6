"""Reader of a Hugging Face folder: config.json, weights (safetensors or .bin, one file or sharded), tokenizer."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from mm_adapter.core.errors import UserError
from mm_adapter.core.files import read_json
from mm_adapter.llama.checkpoints.source import MappedFile, StoredTensor, WeightSource, read_tensors, store_mapped
from mm_adapter.llama.config import LlamaConfig, RopeDivisors, RopeScaling
from mm_adapter.llama.tokenizers.chat_template import read_chat_template
from mm_adapter.llama.tokenizers.tokenizer_files import read_tokenizer

_REQUIRED = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
_LLAMA3_KEYS = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")


def read_config(path: Path) -> LlamaConfig:
    """Return the shape of a ``llama`` or ``mistral`` model.

    A sliding window shorter than the context shortens the context: up to there it is ordinary attention, and beyond it
    this decoder would compute something else.

    Raises:
        UserError: the file is missing or damaged, or the model is not a LLaMA that this decoder computes.
    """
    values = read_json(path, "model configuration")
    if not isinstance(values, dict):
        raise UserError(f"{path}: the model configuration is not a JSON object.")
    _check_kind(path, values)
    missing = [name for name in _REQUIRED if type(values.get(name)) is not int]
    if missing:
        raise UserError(f"{path}: {', '.join(missing)} missing or not a whole number.")
    heads, end = values["num_attention_heads"], values.get("eos_token_id")
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    if not isinstance(rope, dict):
        raise UserError(f"{path}: rope_scaling is {rope!r}; it must be an object.")
    head_dim = values.get("head_dim") or values["hidden_size"] // max(heads, 1)
    return LlamaConfig(
        vocab_size=values["vocab_size"],
        hidden_size=values["hidden_size"],
        num_layers=values["num_hidden_layers"],
        num_heads=heads,
        num_kv_heads=values.get("num_key_value_heads") or heads,
        head_dim=head_dim,
        intermediate_size=values["intermediate_size"],
        context_length=_context_length(path, values),
        norm_epsilon=values.get("rms_norm_eps", 1e-6),
        rope_theta=rope.get("rope_theta") or values.get("rope_theta") or 10000.0,
        rope_scaling=_rope_scaling(path, rope, head_dim),
        tied_embeddings=bool(values.get("tie_word_embeddings", False)),
        attention_bias=bool(values.get("attention_bias", False)),
        begin_token=values.get("bos_token_id"),
        end_tokens=() if end is None else tuple(end) if isinstance(end, list) else (end,),
    )


def _check_kind(path: Path, values: dict[str, Any]) -> None:
    kind = values.get("model_type")
    if kind not in ("llama", "mistral"):
        raise UserError(f"{path}: model_type {kind!r} is not a LLaMA; llama and mistral can be adapted.")
    if values.get("quantization_config"):
        raise UserError(f"{path}: the weights are quantised (quantization_config); use the original or a GGUF file.")
    if values.get("mlp_bias"):
        raise UserError(f"{path}: mlp_bias is not supported.")
    if values.get("hidden_act", "silu") != "silu":
        raise UserError(f"{path}: hidden_act {values['hidden_act']!r} is not supported; a LLaMA has silu.")
    if values.get("partial_rotary_factor", 1) != 1:
        raise UserError(f"{path}: partial_rotary_factor is not supported; a LLaMA rotates whole heads.")


def _context_length(path: Path, values: dict[str, Any]) -> Any:
    length, window = values.get("max_position_embeddings", 2048), values.get("sliding_window")
    if window is None:
        return length
    if type(window) is not int or window < 1 or type(length) is not int:
        raise UserError(f"{path}: sliding_window is {window!r}; it must be a positive whole number or null.")
    return min(length, window)


def _rope_scaling(path: Path, rope: dict[str, Any], head_dim: Any) -> RopeScaling | RopeDivisors | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind == "linear" and type(head_dim) is int and 0 < head_dim < 1 << 24:
        return RopeDivisors((rope.get("factor", 0),) * (head_dim // 2))
    if kind != "llama3":
        raise UserError(f"{path}: rotary scaling of type {kind!r} is not supported (llama3 and linear are).")
    if any(key not in rope for key in _LLAMA3_KEYS):
        raise UserError(f"{path}: rope_scaling of type llama3 needs {', '.join(_LLAMA3_KEYS)}.")
    return RopeScaling(*(rope[key] for key in _LLAMA3_KEYS))


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
