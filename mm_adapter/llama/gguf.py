"""Reader of GGUF files (llama.cpp's format) through the ``gguf`` package: shape, weights, vocabulary."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from torch import Tensor

from mm_adapter.errors import UserError
from mm_adapter.llama.config import LlamaConfig
from mm_adapter.llama.gguf_vocabulary import build_tokenizer
from mm_adapter.llama.source import WeightSource, interleaved_to_half_split

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


class _PlainReader(GGUFReader):
    """The package's reader over a plain view of the mapped file: numpy's memmap costs 2 s per 100,000 small reads."""

    @property
    def data(self) -> Any:
        """The file's bytes."""
        return self._bytes

    @data.setter
    def data(self, mapped: Any) -> None:
        self._bytes = mapped.view(np.ndarray)


def open_gguf(path: Path) -> WeightSource:
    """Open a GGUF file of the ``llama`` architecture.

    Raises:
        UserError: the file is missing, truncated, not GGUF, or of another architecture.
    """
    try:
        reader = _PlainReader(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such model file.") from None
    except Exception as error:  # the package raises whatever numpy meets in a damaged file
        raise UserError(f"{path}: not a readable GGUF file ({error}). It may be truncated; fetch it again.") from error
    fields = dict(reader.fields)

    def value(name: str, default: Any = None) -> Any:
        return fields[name].contents() if name in fields else default

    architecture = value("general.architecture")
    if architecture != "llama":
        raise UserError(f"{path}: architecture {architecture!r} is not a LLaMA; only 'llama' files can be adapted.")
    config = _read_config(path, value, {tensor.name for tensor in reader.tensors}, reader)
    return WeightSource(
        config=config,
        tensors=lambda: _tensors(path, reader, config),
        tokenizer=lambda: build_tokenizer(path, value),
    )


def _read_config(path: Path, value: Any, names: set[str], reader: GGUFReader) -> LlamaConfig:
    def number(name: str, default: Any = None) -> Any:
        found = value(f"llama.{name}", default)
        if not isinstance(found, int | float):
            raise UserError(f"{path}: the key llama.{name} is missing or not a number; the file is not usable.")
        return found

    if "rope_freqs.weight" in names or value("llama.rope.scaling.type", "none") not in ("none", ""):
        raise UserError(
            f"{path}: rotary frequency scaling in GGUF files is not supported; use the Hugging Face folder."
        )
    heads, hidden = int(number("attention.head_count")), int(number("embedding_length"))
    shapes = {tensor.name: tuple(int(size) for size in tensor.shape) for tensor in reader.tensors}
    if "token_embd.weight" not in shapes:
        raise UserError(
            f"{path}: the tensor token_embd.weight is missing; the file is truncated or not a language model."
        )
    begin, end = value("tokenizer.ggml.bos_token_id"), value("tokenizer.ggml.eos_token_id")
    return LlamaConfig(
        vocab_size=shapes["token_embd.weight"][-1],
        hidden_size=hidden,
        num_layers=int(number("block_count")),
        num_heads=heads,
        num_kv_heads=int(number("attention.head_count_kv", heads)),
        head_dim=int(number("attention.key_length", hidden // max(heads, 1))),
        intermediate_size=int(number("feed_forward_length")),
        context_length=int(number("context_length", 2048)),
        norm_epsilon=float(number("attention.layer_norm_rms_epsilon", 1e-6)),
        rope_theta=float(number("rope.freq_base", 10000.0)),
        tied_embeddings="output.weight" not in names,
        attention_bias="blk.0.attn_q.bias" in names,
        begin_token=begin,
        end_tokens=() if end is None else (int(end),),
    )


def _tensors(path: Path, reader: GGUFReader, config: LlamaConfig) -> Iterator[tuple[str, Tensor]]:
    for tensor in reader.tensors:
        name = _canonical_name(tensor.name)
        try:
            array = dequantize(_long_rows(tensor.data), tensor.tensor_type)
        except (NotImplementedError, ValueError) as error:
            kind = tensor.tensor_type.name
            raise UserError(f"{path}: tensor {tensor.name} ({kind}) cannot be dequantised ({error}).") from error
        if not array.flags.writeable:
            array = np.array(array)
        weight = torch.from_numpy(array).reshape(tuple(int(size) for size in reversed(tensor.shape)))
        if ".attention.query." in name:
            weight = interleaved_to_half_split(weight, config.num_heads)
        elif ".attention.key." in name:
            weight = interleaved_to_half_split(weight, config.num_kv_heads)
        yield name, weight


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
