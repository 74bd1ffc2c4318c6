"""Reader of Meta's own layout in its plain form: params.json and one consolidated.00.pth, read without pickled code."""

import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mm_adapter.errors import UserError
from mm_adapter.files import read_json
from mm_adapter.llama.config import LlamaConfig
from mm_adapter.llama.source import WeightSource, interleaved_to_half_split
from mm_adapter.llama.tokenizer import read_tokenizer

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


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a ``.pth`` file, memory-mapped, with no pickled code executed.

    Raises:
        UserError: the file is missing, damaged, or holds anything but tensors by name.
    """
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise UserError(f"{path}: not a readable file of tensors ({str(error).splitlines()[0]}).") from error
    content = content.get("model", content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise UserError(f"{path}: holds something other than tensors by name.")
    return content


def open_meta(folder: Path) -> WeightSource:
    """Open a folder with ``params.json`` and one ``consolidated.00.pth``.

    Raises:
        UserError: files are missing or damaged, or the weights are in several model-parallel shards.
    """
    shards = sorted(folder.glob("consolidated.*.pth"))
    if len(shards) != 1:
        raise UserError(f"{folder}: {len(shards)} consolidated.*.pth files; exactly one can be read.")
    tensors = read_tensors(shards[0])
    config = _read_config(folder / "params.json", shards[0], tensors)
    return WeightSource(
        config=config,
        tensors=lambda: _canonical(tensors, config),
        tokenizer=lambda: read_tokenizer(folder, config.end_tokens),
    )


def _read_config(path: Path, weights: Path, tensors: dict[str, Tensor]) -> LlamaConfig:
    values = read_json(path, "model parameters")
    if not isinstance(values, dict) or not all(
        isinstance(values.get(key), int) for key in ("dim", "n_layers", "n_heads")
    ):
        raise UserError(f"{path}: dim, n_layers and n_heads must be there as whole numbers.")
    needed = ("tok_embeddings.weight", "layers.0.feed_forward.w1.weight")
    missing = [name for name in needed if name not in tensors]
    if missing:
        raise UserError(f"{weights}: the tensor {missing[0]} is missing; this is not a LLaMA in Meta's layout.")
    return LlamaConfig(
        vocab_size=tensors["tok_embeddings.weight"].shape[0],
        hidden_size=values["dim"],
        num_layers=values["n_layers"],
        num_heads=values["n_heads"],
        num_kv_heads=values.get("n_kv_heads") or values["n_heads"],
        head_dim=values["dim"] // max(values["n_heads"], 1),
        intermediate_size=tensors["layers.0.feed_forward.w1.weight"].shape[0],
        context_length=values.get("max_seq_len", 2048),
        norm_epsilon=values.get("norm_eps", 1e-6),
        rope_theta=values.get("rope_theta", 10000.0),
        tied_embeddings="output.weight" not in tensors,
    )


def _canonical(tensors: dict[str, Tensor], config: LlamaConfig) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tensors.items():
        if name == "rope.freqs":
            continue
        match = re.fullmatch(r"layers\.(\d+)\.(.+)\.weight", name)
        if match and match[2] in _LAYER_NAMES:
            canonical = f"layers.{match[1]}.{_LAYER_NAMES[match[2]]}.weight"
            if match[2] == "attention.wq":
                tensor = interleaved_to_half_split(tensor, config.num_heads)
            elif match[2] == "attention.wk":
                tensor = interleaved_to_half_split(tensor, config.num_kv_heads)
            yield canonical, tensor
        else:
            yield _FIXED_NAMES.get(name, name), tensor
