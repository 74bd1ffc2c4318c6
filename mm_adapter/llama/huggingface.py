"""Reader of a Hugging Face folder: config.json, safetensors (one file or sharded by an index), tokenizer."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from mm_adapter.errors import UserError
from mm_adapter.files import read_json
from mm_adapter.llama.config import LlamaConfig, RopeScaling
from mm_adapter.llama.source import WeightSource
from mm_adapter.llama.tokenizer import read_tokenizer

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
    config = _read_config(folder / "config.json")
    return WeightSource(
        config=config,
        tensors=lambda: _tensors(folder, config),
        tokenizer=lambda: read_tokenizer(folder, config.end_tokens),
    )


def _read_config(path: Path) -> LlamaConfig:
    values = read_json(path, "model configuration")
    if not isinstance(values, dict):
        raise UserError(f"{path}: the model configuration is not a JSON object.")
    kind = values.get("model_type")
    if kind not in ("llama", "mistral"):
        raise UserError(f"{path}: model_type {kind!r} is not a LLaMA; llama and mistral can be adapted.")
    if values.get("sliding_window"):
        raise UserError(f"{path}: sliding-window attention ({values['sliding_window']} tokens) is not supported.")
    if values.get("mlp_bias"):
        raise UserError(f"{path}: mlp_bias is not supported.")
    required = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    missing = [name for name in required if not isinstance(values.get(name), int)]
    if missing:
        raise UserError(f"{path}: {', '.join(missing)} missing or not a whole number.")
    heads = values["num_attention_heads"]
    end = values.get("eos_token_id")
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    if not isinstance(rope, dict):
        raise UserError(f"{path}: rope_scaling is {rope!r}; it must be an object.")
    return LlamaConfig(
        vocab_size=values["vocab_size"],
        hidden_size=values["hidden_size"],
        num_layers=values["num_hidden_layers"],
        num_heads=heads,
        num_kv_heads=values.get("num_key_value_heads") or heads,
        head_dim=values.get("head_dim") or values["hidden_size"] // max(heads, 1),
        intermediate_size=values["intermediate_size"],
        context_length=values.get("max_position_embeddings", 2048),
        norm_epsilon=values.get("rms_norm_eps", 1e-6),
        rope_theta=rope.get("rope_theta") or values.get("rope_theta") or 10000.0,
        rope_scaling=_rope_scaling(path, rope),
        tied_embeddings=bool(values.get("tie_word_embeddings", False)),
        attention_bias=bool(values.get("attention_bias", False)),
        begin_token=values.get("bos_token_id"),
        end_tokens=() if end is None else tuple(end) if isinstance(end, list) else (end,),
    )


def _rope_scaling(path: Path, rope: dict[str, Any]) -> RopeScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind != "llama3":
        raise UserError(f"{path}: rotary scaling of type {kind!r} is not supported (llama3 is).")
    keys = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    if any(key not in rope for key in keys):
        raise UserError(f"{path}: rope_scaling of type llama3 needs {', '.join(keys)}.")
    return RopeScaling(*(rope[key] for key in keys))


def _tensors(folder: Path, config: LlamaConfig) -> Iterator[tuple[str, Tensor]]:
    for path in _weight_files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 - not a mapping
                    canonical = _canonical_name(name)
                    tied_copy = canonical == "head.weight" and config.tied_embeddings
                    if not tied_copy and not name.endswith("rotary_emb.inv_freq"):
                        yield canonical, file.get_tensor(name)
        except FileNotFoundError:
            raise UserError(f"{path}: no such weight file, though the index names it. Complete the folder.") from None
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path}: not a readable safetensors file ({error}). Fetch it again.") from error


def _weight_files(folder: Path) -> list[Path]:
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if not index.is_file():
        raise UserError(f"{folder}: neither model.safetensors nor model.safetensors.index.json is there.")
    content = read_json(index, "index of weight shards")
    shards = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise UserError(f"{index}: has no weight_map of tensor names to files.")
    names = sorted(set(shards.values()))
    outside = [name for name in names if Path(name).name != name]
    if outside:
        raise UserError(f"{index}: the shard {outside[0]!r} leaves the model's folder; refused.")
    return [folder / name for name in names]


def _canonical_name(name: str) -> str:
    match = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.(weight|bias)", name)
    if match and match[2] in _LAYER_NAMES:
        return f"layers.{match[1]}.{_LAYER_NAMES[match[2]]}.{match[3]}"
    return _FIXED_NAMES.get(name, name)
