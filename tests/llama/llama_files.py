"""Tiny random models and writers of the file formats that real models come in."""

import base64
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


def random_llama(seed: int = 0, dtype: torch.dtype = torch.float32, **changes: Any) -> Llama:
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
    model = Llama(LlamaConfig(**(sizes | changes))).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            noise = torch.randn(tensor.shape, generator=generator, dtype=dtype)
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


HUGGINGFACE_NAMES = {
    "embedding": "model.embed_tokens",
    "norm": "model.norm",
    "head": "lm_head",
    "attention_norm": "input_layernorm",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.output": "self_attn.o_proj",
    "mlp_norm": "post_attention_layernorm",
    "mlp.gate": "mlp.gate_proj",
    "mlp.up": "mlp.up_proj",
    "mlp.down": "mlp.down_proj",
}


def huggingface_tensors(model: Llama) -> dict[str, Tensor]:
    """The model's tensors in the naming of transformers."""
    result = {}
    for name, tensor in model.state_dict().items():
        stem, _, kind = name.rpartition(".")
        number = ""
        if stem.startswith("layers."):
            _, number, stem = stem.split(".", 2)
            number = f"model.layers.{number}."
        result[f"{number}{HUGGINGFACE_NAMES[stem]}.{kind}"] = tensor
    return result


def write_huggingface(folder: Path, config: LlamaConfig) -> Path:
    """A folder's config.json; the weights are for the caller to write."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.intermediate_size,
        "rms_norm_eps": config.norm_epsilon,
        "tie_word_embeddings": config.tied_embeddings,
    }
    (folder / "config.json").write_text(json.dumps(values))
    return folder


def write_meta(folder: Path, model: Llama, shards: int = 1, embedding_axis: int = 1, **changes: Any) -> Path:
    """A folder in Meta's layout; ``changes`` go into params.json.

    Args:
        shards: model-parallel parts that every matrix is cut into.
        embedding_axis: 1 as up to Llama 2, 0 as from Llama 3 on.
    """
    config = model.config
    folder.mkdir(parents=True, exist_ok=True)
    axes = {
        "wq": 0,
        "wk": 0,
        "wv": 0,
        "wo": 1,
        "w1": 0,
        "w2": 1,
        "w3": 0,
        "output": 0,
        "tok_embeddings": embedding_axis,
    }
    parts: list[dict[str, Tensor]] = [{"rope.freqs": torch.ones(config.head_dim // 2)} for _ in range(shards)]
    for name, tensor in foreign_tensors(model, META_NAMES, "layers").items():
        axis = axes.get(name.split(".")[-2])
        cut = [tensor] * shards if axis is None else tensor.chunk(shards, dim=axis)
        for part, piece in zip(parts, cut, strict=True):
            part[name] = piece.clone()
    for index, part in enumerate(parts):
        torch.save(part, folder / f"consolidated.{index:02d}.pth")
    params = {
        "dim": config.hidden_size,
        "n_layers": config.num_layers,
        "n_heads": config.num_heads,
        "n_kv_heads": config.num_kv_heads,
        "norm_eps": config.norm_epsilon,
        "rope_theta": config.rope_theta,
        "vocab_size": -1,
        **changes,
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
    rope_factors: Tensor | None = None,
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
            writer.add_tensor(name, tensor.float().numpy())
        else:
            writer.add_tensor(name, gguf.quants.quantize(tensor.float().numpy(), kind), raw_dtype=kind)
    if rope_factors is not None:
        writer.add_tensor("rope_freqs.weight", rope_factors.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def pieces_of(model: Any) -> Callable[[gguf.GGUFWriter], None]:
    """The vocabulary of a SentencePiece model as metadata of a GGUF file."""

    def fill(writer: gguf.GGUFWriter) -> None:
        ids = range(model.vocab_size())
        kinds = [2 if model.is_unknown(i) else 3 if model.is_control(i) else 6 if model.is_byte(i) else 1 for i in ids]
        writer.add_tokenizer_model("llama")
        writer.add_token_list([model.id_to_piece(i) for i in ids])
        writer.add_token_scores([model.get_score(i) for i in ids])
        writer.add_token_types(kinds)
        writer.add_bos_token_id(model.bos_id())
        writer.add_eos_token_id(model.eos_id())

    return fill


def write_tiktoken(
    path: Path, words: tuple[bytes, ...] = (b"th", b"the", b" the", b"he", b"en", b"hen", b"12")
) -> Path:
    """A vocabulary of Llama 3's kind: the 256 bytes and a few words, each with its rank."""
    pieces = [*(bytes([byte]) for byte in range(256)), *words]
    lines = [base64.b64encode(piece) + b" %d" % rank for rank, piece in enumerate(pieces)]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path
