"""Reader of GGUF files (llama.cpp's format) of the llama architecture: shape, weights, vocabulary."""

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize
from torch import Tensor

from mm_adapter.core.errors import UserError
from mm_adapter.llama.checkpoints.gguf_file import GGUFFile, GGUFTensor, read_gguf
from mm_adapter.llama.checkpoints.source import MappedFile, StoredTensor, WeightSource, interleaved_to_half_split
from mm_adapter.llama.config import LlamaConfig, RopeDivisors
from mm_adapter.llama.frozen.blocks import BlockMatrix
from mm_adapter.llama.tokenizers.tokenizer_files import build_tokenizer

_FACTORS = "rope_freqs.weight"
_FIXED_NAMES = {
    "token_embd.weight": "embedding.weight",
    "output_norm.weight": "norm.weight",
    "output.weight": "head.weight",
}
_LAYER_NAMES = {
    "attn_norm": "attention_norm",
    "attn_q": "attention.query",
    "attn_k": "attention.key",
    "attn_v": "attention.value",
    "attn_output": "attention.output",
    "ffn_norm": "mlp_norm",
    "ffn_gate": "mlp.gate",
    "ffn_up": "mlp.up",
    "ffn_down": "mlp.down",
}


def open_gguf(path: Path) -> WeightSource:
    """Open a GGUF file of the ``llama`` architecture; of one that was split, all parts beside it.

    Raises:
        UserError: the file is missing, truncated, not GGUF, or of another architecture.
    """
    file = read_gguf(path)
    architecture = file.values.get("general.architecture")
    if architecture != "llama":
        raise UserError(f"{path}: architecture {architecture!r} is not a LLaMA; only 'llama' files can be adapted.")
    config = _read_config(file)
    template = file.values.get("tokenizer.chat_template")
    return WeightSource(
        layout="GGUF",
        config=config,
        tensors=lambda: _tensors(file, config),
        tokenizer=lambda: build_tokenizer(path, file.values),
        chat_template=lambda: template if isinstance(template, str) else None,
    )


def _read_config(file: GGUFFile) -> LlamaConfig:
    path, values = file.path, file.values
    _check_supported(file)

    def number(name: str, default: float | None = None) -> float:
        found = values.get(f"llama.{name}", default)
        if type(found) not in (int, float):
            raise UserError(f"{path}: the key llama.{name} is missing or not a number; the file is not usable.")
        return found  # type: ignore[return-value]

    def whole(name: str, default: int | None = None) -> int:
        found = number(name, default)
        if type(found) is not int:
            raise UserError(f"{path}: the key llama.{name} is {found}, not a whole number; the file is not usable.")
        return found

    heads, hidden = whole("attention.head_count"), whole("embedding_length")
    if "token_embd.weight" not in file.tensors:
        raise UserError(
            f"{path}: the tensor token_embd.weight is missing; the file is truncated or not a language model."
        )
    head_dim = whole("attention.key_length", hidden // max(heads, 1))
    if whole("attention.value_length", head_dim) != head_dim or whole("rope.dimension_count", head_dim) != head_dim:
        raise UserError(f"{path}: keys of {head_dim} channels, but values or rotation of others; not a LLaMA.")
    context, window = whole("context_length", 2048), whole("attention.sliding_window", 0)
    end = values.get("tokenizer.ggml.eos_token_id")
    return LlamaConfig(
        vocab_size=file.tensors["token_embd.weight"].shape[0],
        hidden_size=hidden,
        num_layers=whole("block_count"),
        num_heads=heads,
        num_kv_heads=whole("attention.head_count_kv", heads),
        head_dim=head_dim,
        intermediate_size=whole("feed_forward_length"),
        # Within its window, sliding attention is ordinary attention.
        context_length=min(context, window) if window else context,
        norm_epsilon=number("attention.layer_norm_rms_epsilon", 1e-6),
        rope_theta=number("rope.freq_base", 10000.0),
        rope_scaling=_rope_divisors(file, number, head_dim),
        tied_embeddings="output.weight" not in file.tensors,
        attention_bias="blk.0.attn_q.bias" in file.tensors,
        mlp_bias="blk.0.ffn_gate.bias" in file.tensors,
        position_limit=window or None,
        begin_token=values.get("tokenizer.ggml.bos_token_id"),
        end_tokens=() if end is None else (end,),
    )


def _check_supported(file: GGUFFile) -> None:
    values = file.values
    if values.get("llama.expert_count"):
        raise UserError(f"{file.path}: a mixture of {values['llama.expert_count']} experts, not a plain LLaMA.")
    scaling = values.get("llama.rope.scaling.type", "none")
    if scaling not in ("none", "", "linear"):
        raise UserError(
            f"{file.path}: rotary scaling of type {scaling!r} is not supported (linear and rope_freqs.weight are)."
        )


def _rope_divisors(file: GGUFFile, number: Any, head_dim: int) -> RopeDivisors | None:
    """Return what divides the rotary frequencies: one linear factor, Llama 3.1's factors pair by pair, or both."""
    linear = number("rope.scaling.factor", 1.0) if file.values.get("llama.rope.scaling.type") == "linear" else 1.0
    linear *= number("rope.scale_linear", 1.0)
    stored = file.tensors.get(_FACTORS)
    if stored is None:
        return None if linear == 1 else RopeDivisors((linear,) * (head_dim // 2))
    if stored.shape != (head_dim // 2,):
        raise UserError(f"{file.path}: {_FACTORS} has shape {stored.shape}, expected {(head_dim // 2,)}.")
    factors = _dequantized(file.path, _FACTORS, stored, stored.blocks).flatten()
    return RopeDivisors(tuple((factors * linear).tolist()))


def _tensors(file: GGUFFile, config: LlamaConfig) -> Iterator[tuple[str, StoredTensor]]:
    mapped = {path: MappedFile(path) for path in {tensor.path for tensor in file.tensors.values()}}
    kinds: set[GGMLQuantizationType] = set()
    for name, tensor in file.tensors.items():
        if name == _FACTORS:
            continue
        if tensor.kind not in kinds:
            # A kind that the package cannot read is known from one row, before gigabytes of others are converted.
            _dequantized(file.path, name, tensor, tensor.blocks[:1])
            kinds.add(tensor.kind)
        canonical, heads = _canonical_name(name), None
        if ".attention.query." in canonical:
            heads = config.num_heads
        elif ".attention.key." in canonical:
            heads = config.num_kv_heads
        yield canonical, _stored(tensor.path, name, tensor, mapped[tensor.path], heads)


def _stored(path: Path, name: str, tensor: GGUFTensor, mapped: MappedFile, heads: int | None) -> StoredTensor:
    granule = 1 if heads is None else max(1, tensor.shape[0] // heads)

    def read(first: int, last: int) -> Tensor:
        # A vector is one row of blocks, which is dequantised whole; tensors of more than two axes fit no LLaMA.
        blocks = tensor.blocks[first:last] if len(tensor.shape) > 1 else tensor.blocks
        rows = torch.from_numpy(_dequantized(path, name, tensor, blocks))
        mapped.release_range(blocks.ctypes.data, blocks.nbytes)
        rows = rows if len(tensor.shape) > 1 else rows[0, first:last]
        return rows if heads is None else interleaved_to_half_split(rows, (last - first) // granule)

    def blocks() -> BlockMatrix:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the mapped file cannot be written, and is not
            rows = torch.from_numpy(tensor.blocks)
        rows = rows if heads is None else interleaved_to_half_split(rows, heads)
        return BlockMatrix((tensor.shape[0], tensor.shape[1]), rows, tensor.kind)

    return StoredTensor(tensor.shape, tensor.kind.name, read, granule, blocks=blocks)


def _dequantized(path: Path, name: str, tensor: GGUFTensor, blocks: np.ndarray) -> np.ndarray:
    """Return rows of blocks as float32 ``(rows, width)`` in memory of their own."""
    try:
        values = dequantize(_long_rows(blocks), tensor.kind)
    except (NotImplementedError, ValueError) as error:
        raise UserError(f"{path}: tensor {name} ({tensor.kind.name}) cannot be dequantised ({error}).") from error
    values = values.reshape(len(blocks), -1)
    return values if values.flags.writeable else values.copy()


def _long_rows(blocks: np.ndarray) -> np.ndarray:
    # The package dequantises 16 rows at a time, block by block; longer rows are the same blocks in fewer numpy calls.
    rows = 1 if blocks.ndim == 1 else int(np.prod(blocks.shape[:-1]))
    count = next(count for count in (128, 96, 64, 48, 32, 16, 1) if rows % count == 0)
    return blocks.reshape(count, -1) if rows > count else blocks


def _canonical_name(name: str) -> str:
    match = re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name)
    if match and match[2] in _LAYER_NAMES:
        return f"layers.{match[1]}.{_LAYER_NAMES[match[2]]}.{match[3]}"
    return _FIXED_NAMES.get(name, name)
