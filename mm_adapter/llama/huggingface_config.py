"""What the config.json of a Hugging Face folder says, as a configuration of this package's decoder."""

from pathlib import Path
from typing import Any

from mm_adapter.errors import UserError
from mm_adapter.files import read_json
from mm_adapter.llama.config import LlamaConfig, RopeDivisors, RopeScaling

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
