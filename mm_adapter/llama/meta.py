"""Reader of Meta's own layout: params.json and consolidated.NN.pth, one or many, read without pickled code."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mm_adapter.errors import UserError
from mm_adapter.files import read_json
from mm_adapter.llama.config import LlamaConfig, RopeScaling
from mm_adapter.llama.meta_shards import Shard, merge, merged_shape, open_shards
from mm_adapter.llama.source import StoredTensor, WeightSource
from mm_adapter.llama.tokenizer_files import read_tokenizer
from mm_adapter.llama.torch_files import read_tensors

__all__ = ["open_meta", "read_tensors"]

_FIXED_NAMES = {
    "tok_embeddings.weight": "embedding.weight",
    "norm.weight": "norm.weight",
    "output.weight": "head.weight",
}
_LAYER_NAMES = {
    "attention_norm": "attention_norm",
    "attention.wq": "attention.query",
    "attention.wk": "attention.key",
    "attention.wv": "attention.value",
    "attention.wo": "attention.output",
    "ffn_norm": "mlp_norm",
    "feed_forward.w1": "mlp.gate",
    "feed_forward.w3": "mlp.up",
    "feed_forward.w2": "mlp.down",
}
_SMALL = 3072  # Llama 3.2's small models are up to this wide


def open_meta(folder: Path) -> WeightSource:
    """Open a folder with ``params.json`` and ``consolidated.00.pth`` to ``consolidated.NN.pth``.

    Raises:
        UserError: files are missing, damaged, or of different models, or ``params.json`` contradicts the tensors.
    """
    shards = open_shards(folder)
    config = _read_config(folder / "params.json", shards)
    return WeightSource(
        layout=f"Meta, {len(shards)} shard{'s' if len(shards) > 1 else ''}",
        config=config,
        tensors=lambda: _tensors(shards, config),
        tokenizer=lambda: read_tokenizer(folder, config.end_tokens),
        chat_template=lambda: None,
    )


def _read_config(path: Path, shards: list[Shard]) -> LlamaConfig:
    values = read_json(path, "model parameters")
    if not isinstance(values, dict) or any(type(values.get(key)) is not int for key in ("dim", "n_layers", "n_heads")):
        raise UserError(f"{path}: dim, n_layers and n_heads must be there as whole numbers.")
    if values.get("moe") or values.get("moe_args") or values.get("vision_chunk_size"):
        raise UserError(f"{path}: not a plain LLaMA (a mixture of experts, or one that sees); it cannot be adapted.")
    hidden_size, heads = values["dim"], values["n_heads"]
    shapes = _shapes(shards, hidden_size)
    _check_parameters(path, values, shards, shapes)
    return LlamaConfig(
        vocab_size=shapes["tok_embeddings.weight"][0],
        hidden_size=hidden_size,
        num_layers=values["n_layers"],
        num_heads=heads,
        num_kv_heads=values.get("n_kv_heads") or heads,
        head_dim=hidden_size // max(heads, 1),
        intermediate_size=shapes["layers.0.feed_forward.w1.weight"][0],
        context_length=_context_length(values),
        norm_epsilon=values.get("norm_eps", 1e-6),
        rope_theta=values.get("rope_theta", 10000.0),
        rope_scaling=_rope_scaling(values),
        tied_embeddings="output.weight" not in shapes,
    )


def _shapes(shards: list[Shard], hidden_size: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all tensors put together, of which a few are needed to read params.json."""
    tensors = [shard.tensors for shard in shards]
    needed = ("tok_embeddings.weight", "layers.0.attention.wq.weight", "layers.0.feed_forward.w1.weight")
    for name in needed:
        if name not in tensors[0] or tensors[0][name].ndim != 2:
            raise UserError(f"{shards[0].path}: the tensor {name} is missing; this is not a LLaMA in Meta's layout.")
    return {name: merged_shape(name, tensors, hidden_size) for name in tensors[0]}


def _check_parameters(
    path: Path, values: dict[str, Any], shards: list[Shard], shapes: dict[str, tuple[int, ...]]
) -> None:
    """Refuse what params.json says otherwise than the tensors do."""
    hidden_size = values["dim"]
    rows, width = shapes["layers.0.attention.wq.weight"]
    if width != hidden_size:
        raise UserError(f"{path}: dim is {hidden_size}, the tensors of {shards[0].path.name} are {width} wide.")
    part = rows // len(shards)
    if rows != hidden_size and part and hidden_size % part == 0:
        raise UserError(
            f"{path.parent}: {len(shards)} consolidated.*.pth, but each holds one of {hidden_size // part} parts of "
            f"the model that params.json describes. Complete the folder."
        )
    layers = 1 + max(int(found[1]) for name in shapes if (found := re.match(r"layers\.(\d{1,8})\.", name)))
    if layers != values["n_layers"]:
        raise UserError(f"{path}: n_layers is {values['n_layers']}, the tensors are those of {layers} layers.")
    vocabulary = values.get("vocab_size", -1)
    if vocabulary != -1 and vocabulary != shapes["tok_embeddings.weight"][0]:
        raise UserError(
            f"{path}: vocab_size is {vocabulary}, the embedding has {shapes['tok_embeddings.weight'][0]} rows."
        )
    expected = _intermediate_size(values)
    found_size = shapes["layers.0.feed_forward.w1.weight"][0]
    if expected is not None and expected != found_size:
        raise UserError(
            f"{path}: multiple_of and ffn_dim_multiplier make a feed-forward width of {expected}, "
            f"the tensors have {found_size}."
        )


def _intermediate_size(values: dict[str, Any]) -> int | None:
    """Return the feed-forward width that params.json implies: two thirds of 4 D, scaled, rounded up; None if unsaid."""
    multiple, scale = values.get("multiple_of"), values.get("ffn_dim_multiplier")
    if type(multiple) is not int or multiple < 1:
        return None
    size = 8 * values["dim"] // 3
    if isinstance(scale, int | float) and 0 < scale < 1e6:
        size = int(scale * size)
    return -(-size // multiple) * multiple


def _context_length(values: dict[str, Any]) -> Any:
    """Return the positions that the release was trained for; params.json itself never says."""
    if "max_seq_len" in values:
        return values["max_seq_len"]
    if values.get("use_scaled_rope"):
        return 131072
    theta = values.get("rope_theta", 10000.0)
    return 8192 if isinstance(theta, int | float) and theta >= 500000 else 2048


def _rope_scaling(values: dict[str, Any]) -> RopeScaling | None:
    """Return Llama 3.1's scaling where ``use_scaled_rope`` asks for it.

    The numbers are those of the releases and stand in no params.json: frequencies were stretched by 8 in 3.1 and by 32
    in the small models of 3.2, unless ``rope_scaling_factor`` says otherwise.
    """
    if not values.get("use_scaled_rope"):
        return None
    factor = values.get("rope_scaling_factor") or (32.0 if values["dim"] <= _SMALL else 8.0)
    return RopeScaling(factor, 1.0, 4.0, 8192)


def _tensors(shards: list[Shard], config: LlamaConfig) -> Iterator[tuple[str, StoredTensor]]:
    heads = {"attention.wq": config.num_heads, "attention.wk": config.num_kv_heads}
    for name, tensor in shards[0].tensors.items():
        if name == "rope.freqs":
            continue
        if not tensor.is_floating_point():
            raise UserError(f"{shards[0].path}: {name} has dtype {tensor.dtype}; quantised weights cannot be read.")
        match = re.fullmatch(r"layers\.(\d+)\.(.+)\.weight", name)
        if match and match[2] in _LAYER_NAMES:
            merged = merge(name, shards, config.hidden_size, heads.get(match[2]))
            yield f"layers.{match[1]}.{_LAYER_NAMES[match[2]]}.weight", merged
        else:
            yield _FIXED_NAMES.get(name, name), merge(name, shards, config.hidden_size, None)
