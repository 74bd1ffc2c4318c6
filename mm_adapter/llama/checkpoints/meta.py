"""Reader of Meta's own layout: params.json and consolidated.NN.pth, one or many, read without pickled code.

Model-parallel shards are put together again tensor by tensor, rows at a time.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mm_adapter.core.errors import UserError
from mm_adapter.core.files import read_json
from mm_adapter.llama.checkpoints.source import (
    MappedFile,
    StoredTensor,
    WeightSource,
    dtype_name,
    interleaved_to_half_split,
    read_tensors,
    store_mapped,
)
from mm_adapter.llama.config import LlamaConfig, RopeScaling
from mm_adapter.llama.tokenizers.tokenizer_files import read_tokenizer

_CUT_ALONG_ROWS = ("attention.wq", "attention.wk", "attention.wv", "feed_forward.w1", "feed_forward.w3", "output")
_CUT_ALONG_COLUMNS = ("attention.wo", "feed_forward.w2")


@dataclass(frozen=True)
class Shard:
    """One ``consolidated.NN.pth``.

    Attributes:
        path: the file.
        tensors: by Meta's names, memory-mapped.
        file: where it is mapped.
    """

    path: Path
    tensors: dict[str, Tensor]
    file: MappedFile


def open_shards(folder: Path) -> list[Shard]:
    """Open all shards of a folder, in order.

    Raises:
        UserError: a shard is missing or damaged, or the shards are not of one model.
    """
    found = {path.name: path for path in folder.glob("consolidated.*.pth")}
    if not found:
        raise UserError(f"{folder}: no consolidated.00.pth; the weights are missing.")
    names = [f"consolidated.{index:02d}.pth" for index in range(len(found))]
    missing = [name for name in names if name not in found]
    if missing:
        raise UserError(f"{folder}: {missing[0]} is missing, though there is {max(found)}. Complete the folder.")
    shards = []
    for name in names:
        tensors = read_tensors(found[name])
        shards.append(Shard(found[name], tensors, MappedFile(found[name])))
    for shard in shards[1:]:
        _check_same_model(shards[0], shard)
    return shards


def _check_same_model(first: Shard, other: Shard) -> None:
    def different(reason: str) -> UserError:
        return UserError(f"{other.path}: of another model than {first.path.name}: {reason}.")

    strange = sorted(first.tensors.keys() ^ other.tensors.keys())
    if strange:
        raise different(f"{strange[0]} is in one of them alone")
    for name, tensor in first.tensors.items():
        twin = other.tensors[name]
        if twin.shape != tensor.shape or twin.dtype != tensor.dtype:
            raise different(
                f"{name} is {dtype_name(tensor.dtype)} {tuple(tensor.shape)} there, "
                f"{dtype_name(twin.dtype)} {tuple(twin.shape)} here"
            )
        # Norms are in every shard whole: what tells two models of one shape apart.
        if tensor.ndim == 1 and not torch.equal(twin, tensor):
            raise different(f"{name} differs, which all shards of a model have in common")


def cut_axis(name: str, parts: Sequence[Tensor], hidden_size: int) -> int | None:
    """Return the axis along which a tensor was cut over the shards, None where each holds it whole.

    Embeddings were cut by width up to Llama 2 and by vocabulary from Llama 3 on: the width of a part tells.
    """
    stem = name.removesuffix(".weight").removeprefix("layers.").lstrip("0123456789.")
    if len(parts) == 1 or parts[0].ndim != 2:
        return None
    if stem == "tok_embeddings":
        return 0 if parts[0].shape[1] == hidden_size else 1
    if stem in _CUT_ALONG_ROWS:
        return 0
    return 1 if stem in _CUT_ALONG_COLUMNS else None


def merged_shape(name: str, tensors: Sequence[Mapping[str, Tensor]], hidden_size: int) -> tuple[int, ...]:
    """Return the shape that a tensor has when its parts are put together."""
    parts = [part[name] for part in tensors]
    shape = list(parts[0].shape)
    axis = cut_axis(name, parts, hidden_size)
    if axis is not None:
        shape[axis] *= len(parts)
    return tuple(shape)


def merge(name: str, shards: Sequence[Shard], hidden_size: int, heads: int | None) -> StoredTensor:
    """Describe a tensor whose parts lie in ``shards``.

    Args:
        name: Meta's.
        heads: of a query or key projection, all shards together; None for anything else.
    """
    parts = [shard.tensors[name] for shard in shards]
    axis = cut_axis(name, parts, hidden_size)
    if axis is None:
        return store_mapped(parts[0], shards[0].file, heads)

    def read(first: int, last: int) -> Tensor:
        height = len(parts[0])
        if axis == 1:
            spans = [part[first:last] for part in parts]
        else:
            spans = [part[max(0, first - i * height) : max(0, last - i * height)] for i, part in enumerate(parts)]
        rows = torch.cat(spans, dim=axis)
        for shard, span in zip(shards, spans, strict=True):
            shard.file.release(span)
        return rows if heads is None else interleaved_to_half_split(rows, (last - first) // granule)

    shape = merged_shape(name, [shard.tensors for shard in shards], hidden_size)
    granule = 1 if heads is None else max(1, shape[0] // heads)
    return StoredTensor(shape, dtype_name(parts[0].dtype), read, granule)


__all__ = ["open_meta", "read_tensors"]

_FIXED_NAMES = {
    "tok_embeddings.weight": "embedding.weight",
    "norm.weight": "norm.weight",
    "output.weight": "head.weight",
}
LAYER_NAMES = {
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
        if match and match[2] in LAYER_NAMES:
            merged = merge(name, shards, config.hidden_size, heads.get(match[2]))
            yield f"layers.{match[1]}.{LAYER_NAMES[match[2]]}.weight", merged
        else:
            yield _FIXED_NAMES.get(name, name), merge(name, shards, config.hidden_size, None)
