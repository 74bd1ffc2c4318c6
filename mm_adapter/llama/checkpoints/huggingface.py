"""Reader of a Hugging Face folder: config.json, weights (safetensors or .bin, one file or sharded), tokenizer."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from mm_adapter.core.errors import UserError
from mm_adapter.core.files import read_json, refuse_pointer
from mm_adapter.llama.checkpoints.source import (
    MappedFile,
    StoredTensor,
    WeightSource,
    read_tensors,
    same_values,
    store_mapped,
)
from mm_adapter.llama.config import LlamaConfig, RopeDivisors, RopeScaling
from mm_adapter.llama.tokenizers.chat_template import read_chat_template
from mm_adapter.llama.tokenizers.tokenizer_files import read_tokenizer

_REQUIRED = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
_LLAMA3_KEYS = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
_ROTARY = ("default", "linear", "dynamic", "llama3")
# What transformers' configuration classes take where config.json is silent.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {"max_position_embeddings": 2048, "num_key_value_heads": None, "sliding_window": None},
    "mistral": {"max_position_embeddings": 131072, "num_key_value_heads": 8, "sliding_window": 4096},
}


def read_config(path: Path) -> LlamaConfig:
    """Return the shape of a ``llama`` or ``mistral`` model; where the file is silent, the defaults of ``transformers``.

    Positions beyond a sliding window, or where dynamic rotary scaling sets in, are refused when they come: up to there
    it is ordinary attention.

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
    values = {**_DEFAULTS[values["model_type"]], **values}
    heads, end = values["num_attention_heads"], values.get("eos_token_id")
    key_heads, head_dim = values["num_key_value_heads"], values.get("head_dim")
    head_dim = values["hidden_size"] // max(heads, 1) if head_dim is None else head_dim
    rope = _rope(path, values)
    context, limit = _lengths(path, values, rope)
    biased = values["model_type"] == "llama"  # transformers' Mistral has no bias, whatever its file says
    return LlamaConfig(
        vocab_size=values["vocab_size"],
        hidden_size=values["hidden_size"],
        num_layers=values["num_hidden_layers"],
        num_heads=heads,
        num_kv_heads=heads if key_heads is None else key_heads,
        head_dim=head_dim,
        intermediate_size=values["intermediate_size"],
        context_length=context,
        norm_epsilon=values.get("rms_norm_eps", 1e-6),
        rope_theta=rope["rope_theta"],
        rope_scaling=_rope_scaling(path, rope, head_dim),
        tied_embeddings=_flag(path, values, "tie_word_embeddings"),
        attention_bias=_flag(path, values, "attention_bias") and biased,
        mlp_bias=_flag(path, values, "mlp_bias") and biased,
        position_limit=limit,
        begin_token=values.get("bos_token_id"),
        end_tokens=() if end is None else tuple(end) if isinstance(end, list) else (end,),
    )


def _flag(path: Path, values: dict[str, Any], name: str) -> bool:
    value = values.get(name, False)
    if type(value) is not bool:
        raise UserError(f"{path}: {name} is {value!r}; it must be true or false.")
    return value


def _check_kind(path: Path, values: dict[str, Any]) -> None:
    kind = values.get("model_type")
    if kind not in _DEFAULTS:
        raise UserError(f"{path}: model_type {kind!r} is not a LLaMA; llama and mistral can be adapted.")
    if values.get("quantization_config"):
        raise UserError(f"{path}: the weights are quantised (quantization_config); use the original or a GGUF file.")
    if values.get("hidden_act", "silu") not in ("silu", "swish"):  # two names of one function
        raise UserError(f"{path}: hidden_act {values['hidden_act']!r} is not supported; a LLaMA has silu.")
    if values.get("layer_types"):
        raise UserError(f"{path}: layer_types is not supported; the layers of a LLaMA attend alike.")


def _rope(path: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Return the rotary settings in one place: ``rope_type``, ``rope_theta`` and what the type needs.

    Version 5 of transformers writes ``rope_parameters``, earlier ones ``rope_theta`` and ``rope_scaling``; where both
    stand, the library takes ``rope_scaling``.
    """
    rope = values.get("rope_scaling") or values.get("rope_parameters") or {}
    if not isinstance(rope, dict) or any(isinstance(value, dict) for value in rope.values()):
        raise UserError(f"{path}: the rotary settings are {rope!r}; they must be one object for all layers.")
    outer = {key: values[key] for key in ("rope_theta", "partial_rotary_factor") if values.get(key) is not None}
    rope = {"rope_theta": 10000.0, **outer, "rope_type": rope.get("type", "default"), **rope}
    if rope["rope_type"] not in _ROTARY:
        raise UserError(
            f"{path}: rotary scaling of type {rope['rope_type']!r} is not supported ({', '.join(_ROTARY)} are)."
        )
    if rope.get("partial_rotary_factor", 1) != 1:
        raise UserError(f"{path}: partial_rotary_factor is not supported; a LLaMA rotates whole heads.")
    if rope["rope_type"] == "llama3":
        length = values.get("original_max_position_embeddings", rope.get("original_max_position_embeddings"))
        rope["original_max_position_embeddings"] = values["max_position_embeddings"] if length is None else length
    return rope


def _lengths(path: Path, values: dict[str, Any], rope: dict[str, Any]) -> tuple[Any, int | None]:
    """Return the context length, and the positions up to which this decoder computes what the model does."""
    length, window = values["max_position_embeddings"], values["sliding_window"]
    limits = [length] if rope["rope_type"] == "dynamic" else []
    if window is not None and values["model_type"] == "mistral":
        if type(window) is not int or window < 1 or type(length) is not int:
            raise UserError(f"{path}: sliding_window is {window!r}; it must be a positive whole number or null.")
        limits.append(window)
    return min([length, *limits]), min(limits, default=None)


def _rope_scaling(path: Path, rope: dict[str, Any], head_dim: Any) -> RopeScaling | RopeDivisors | None:
    kind = rope["rope_type"]
    if kind == "linear" and type(head_dim) is int and 0 < head_dim < 1 << 24:
        return RopeDivisors((rope.get("factor", 0),) * (head_dim // 2))
    if kind != "llama3":
        return None
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
    # A folder without weights still tells its shape.
    here = any(any(folder.glob(pattern)) for pattern in ("model.safetensors*", "pytorch_model.bin*"))
    stored = _shared(_tensors(folder)) if config.tied_embeddings and here else None
    if stored is not None and "head.weight" in dict(stored):
        config = replace(config, tied_embeddings=False)
    return WeightSource(
        layout="Hugging Face",
        config=config,
        tensors=lambda: _tensors(folder) if stored is None else iter(stored),
        tokenizer=lambda: read_tokenizer(folder, config.end_tokens),
        chat_template=lambda: read_chat_template(folder),
    )


def _shared(tensors: Iterable[tuple[str, StoredTensor]]) -> list[tuple[str, StoredTensor]]:
    """Return the tensors of a model whose configuration ties head and embedding, the head only where it is another.

    As transformers does it: two equal ones are tied, one serves as both, and a head of its own is used.
    """
    stored = list(tensors)
    named = dict(stored)
    head, embedding = named.get("head.weight"), named.get("embedding.weight")
    if head is None or (embedding is not None and not same_values(head, embedding)):
        return stored
    rest = [(name, tensor) for name, tensor in stored if name != "head.weight"]
    return rest if embedding is not None else [*rest, ("embedding.weight", head)]


def _tensors(folder: Path) -> Iterator[tuple[str, StoredTensor]]:
    for path in _weight_files(folder):
        read = _read_safetensors if path.suffix == ".safetensors" else _read_torch
        for name, tensor, file in read(path):
            if name.endswith("rotary_emb.inv_freq"):
                continue
            if not tensor.is_floating_point():
                raise UserError(f"{path}: {name} has dtype {tensor.dtype}; quantised weights are read from GGUF alone.")
            yield _canonical_name(name), store_mapped(tensor, file)


def _read_safetensors(path: Path) -> Iterator[tuple[str, Tensor, MappedFile]]:
    try:
        with safe_open(path, framework="pt") as content:
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 - not a mapping
    except Exception as error:  # a header may name dtypes and shapes at which torch fails in its own ways
        refuse_pointer(path)
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
