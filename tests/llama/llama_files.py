"""Tiny random models and writers of the file formats that real models come in."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType
from torch import Tensor

from mm_adapter.llama import Llama, LlamaConfig

GGUF_NAMES = {
    "embedding": "token_embd",
    "norm": "output_norm",
    "head": "output",
    "attention_norm": "attn_norm",
    "attention.query": "attn_q",
    "attention.key": "attn_k",
    "attention.value": "attn_v",
    "attention.output": "attn_output",
    "mlp_norm": "ffn_norm",
    "mlp.gate": "ffn_gate",
    "mlp.up": "ffn_up",
    "mlp.down": "ffn_down",
}
META_NAMES = {
    "embedding": "tok_embeddings",
    "norm": "norm",
    "head": "output",
    "attention_norm": "attention_norm",
    "attention.query": "attention.wq",
    "attention.key": "attention.wk",
    "attention.value": "attention.wv",
    "attention.output": "attention.wo",
    "mlp_norm": "ffn_norm",
    "mlp.gate": "feed_forward.w1",
    "mlp.up": "feed_forward.w3",
    "mlp.down": "feed_forward.w2",
}


def random_llama(seed: int = 0, **changes: Any) -> Llama:
    """A frozen random model of two layers; every tensor, norms and biases included, differs from its default."""
    sizes: dict[str, Any] = {
        "vocab_size": 320,
        "hidden_size": 64,
        "num_layers": 2,
        "num_heads": 4,
        "num_kv_heads": 2,
        "head_dim": 16,
        "intermediate_size": 96,
        "context_length": 128,
    }
    model = Llama(LlamaConfig(**(sizes | changes)))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            noise = torch.randn(tensor.shape, generator=generator)
            tensor.copy_(1 + 0.1 * noise if name.endswith("norm.weight") else 0.2 * noise)
    return model.requires_grad_(False).eval()


def to_interleaved(weight: Tensor, heads: int) -> Tensor:
    """Channels of each head from half-split to adjacent rotary pairs, one row at a time."""
    rows = weight.view(heads, -1, *weight.shape[1:])
    half = rows.shape[1] // 2
    order = [index for pair in range(half) for index in (pair, pair + half)]
    return rows[:, order].reshape(weight.shape)


def foreign_tensors(model: Llama, names: Mapping[str, str], layer_prefix: str) -> dict[str, Tensor]:
    """The model's tensors in the naming and rotary layout of Meta and GGUF."""
    config = model.config
    result = {}
    for name, tensor in model.state_dict().items():
        stem, _, kind = name.rpartition(".")
        number = ""
        if stem.startswith("layers."):
            _, number, stem = stem.split(".", 2)
            number = f"{layer_prefix}.{number}."
        if stem in ("attention.query", "attention.key"):
            tensor = to_interleaved(tensor, config.num_heads if stem == "attention.query" else config.num_kv_heads)
        result[f"{number}{names[stem]}.{kind}"] = tensor
    return result


def write_meta(folder: Path, model: Llama) -> Path:
    """A folder in Meta's layout."""
    config = model.config
    folder.mkdir(parents=True, exist_ok=True)
    tensors = foreign_tensors(model, META_NAMES, "layers")
    torch.save({**tensors, "rope.freqs": torch.ones(config.head_dim // 2)}, folder / "consolidated.00.pth")
    params = {
        "dim": config.hidden_size,
        "n_layers": config.num_layers,
        "n_heads": config.num_heads,
        "n_kv_heads": config.num_kv_heads,
        "norm_eps": config.norm_epsilon,
        "vocab_size": -1,
    }
    (folder / "params.json").write_text(json.dumps(params))
    return folder


def write_gguf(
    path: Path,
    model: Llama,
    kind: GGMLQuantizationType = GGMLQuantizationType.F32,
    fill: Callable[[gguf.GGUFWriter], None] | None = None,
    architecture: str = "llama",
    replace: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """A GGUF file of the model, its matrices in the quantisation ``kind``; ``fill`` adds further metadata."""
    config = model.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.norm_epsilon)
    writer.add_rope_freq_base(config.rope_theta)
    if fill is not None:
        fill(writer)
    for name, tensor in foreign_tensors(model, GGUF_NAMES, "blk").items():
        if replace is not None and name in replace:
            writer.add_tensor(name, replace[name], raw_dtype=kind)
        elif tensor.ndim == 1 or kind == GGMLQuantizationType.F32:
            writer.add_tensor(name, tensor.numpy())
        else:
            writer.add_tensor(name, gguf.quants.quantize(tensor.numpy(), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
