"""litgpt's adapted model, written again from its published definition: what adapters in its layout are held against.

Shares no code with the package. One joint projection for queries, keys and values, in the row order of litgpt through
0.5.4 (``interleaved``: group by group) or since 0.5.5 (``concatenated``: all queries, all keys, all values). Prompts
are cut out group by group in both, which is what litgpt does.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Shape:
    """Sizes with litgpt's names."""

    n_layer: int = 5
    n_head: int = 6
    n_query_groups: int = 2
    head_size: int = 8
    n_embd: int = 48
    intermediate_size: int = 64
    vocab_size: int = 100
    norm_eps: float = 1e-5
    bias: bool = False
    adapter_start_layer: int = 2


def separate_base(shape: Shape, seed: int = 0) -> dict[str, Tensor]:
    """Random weights with queries, keys and values apart; names as short as they can be."""
    generator = torch.Generator().manual_seed(seed)
    query, key = shape.n_head * shape.head_size, shape.n_query_groups * shape.head_size
    shapes: dict[str, tuple[int, ...]] = {
        "wte": (shape.vocab_size, shape.n_embd),
        "lm_head": (shape.vocab_size, shape.n_embd),
        "ln_f": (shape.n_embd,),
    }
    for layer in range(shape.n_layer):
        rows = {"q": query, "k": key, "v": key}
        shapes |= {f"{layer}.{name}": (size, shape.n_embd) for name, size in rows.items()}
        shapes |= {f"{layer}.proj": (shape.n_embd, query)}
        if shape.bias:
            shapes |= {f"{layer}.{name}.bias": (size,) for name, size in (rows | {"proj": shape.n_embd}).items()}
        shapes |= {f"{layer}.{name}": (shape.n_embd,) for name in ("norm_1", "norm_2")}
        shapes |= {f"{layer}.{name}": (shape.intermediate_size, shape.n_embd) for name in ("fc_1", "fc_2")}
        shapes |= {f"{layer}.mlp_proj": (shape.n_embd, shape.intermediate_size)}
    weights = {}
    for name, size in shapes.items():
        noise = torch.randn(size, generator=generator)
        weights[name] = 1 + 0.1 * noise if "norm" in name or name == "ln_f" else 0.15 * noise
    return weights


def joint(weights: Mapping[str, Tensor], layer: int, kind: str, shape: Shape, qkv: str) -> Tensor:
    """The joint projection's weight (``kind`` empty) or bias (``.bias``) in one of litgpt's two row orders."""
    parts = [weights[f"{layer}.{name}{kind}"] for name in "qkv"]
    if qkv == "concatenated":
        return torch.cat(parts)
    size, share = shape.head_size, shape.n_head // shape.n_query_groups
    rows = []
    for group in range(shape.n_query_groups):
        rows.append(parts[0][group * share * size : (group + 1) * share * size])
        rows += [part[group * size : (group + 1) * size] for part in parts[1:]]
    return torch.cat(rows)


def _normed(hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    return hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + epsilon) * weight


def _turned(heads: Tensor) -> Tensor:
    length, width = heads.shape[-2:]
    angles = torch.arange(length)[:, None] / 10000.0 ** (torch.arange(0, width, 2) / width)
    first, second = heads.chunk(2, dim=-1)
    return torch.cat(
        (first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()), dim=-1
    )


def litgpt_logits(
    weights: Mapping[str, Tensor], adapter: Mapping[str, Tensor], tokens: Tensor, shape: Shape, qkv: str
) -> Tensor:
    """Logits ``(T, V)`` of one sequence ``(T,)`` with an adapter in litgpt's naming."""
    groups, share, size = shape.n_query_groups, shape.n_head // shape.n_query_groups, shape.head_size
    hidden = weights["wte"][tokens]
    length = len(tokens)
    future = torch.full((length, length), float("-inf")).triu(1)

    def by_group(flat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cut ``(T, rows)`` as rows that stand group by group: ``(H, T, head_size)`` each, keys and values repeated."""
        cut = flat.view(flat.shape[0], groups, share + 2, size).permute(1, 2, 0, 3)
        keys, values = (cut[:, place].repeat_interleave(share, 0) for place in (share, share + 1))
        return cut[:, :share].flatten(0, 1), keys, values

    def by_kind(flat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        heads = flat.view(flat.shape[0], -1, size).transpose(0, 1)
        queries, keys, values = heads.split((shape.n_head, groups, groups))
        return queries, keys.repeat_interleave(share, 0), values.repeat_interleave(share, 0)

    for layer in range(shape.n_layer):
        weight = joint(weights, layer, "", shape, qkv)
        bias = joint(weights, layer, ".bias", shape, qkv) if shape.bias else 0.0
        normed = _normed(hidden, weights[f"{layer}.norm_1"], shape.norm_eps)
        queries, keys, values = (by_kind if qkv == "concatenated" else by_group)(normed @ weight.T + bias)
        queries, keys = _turned(queries), _turned(keys)
        mixed = (queries @ keys.mT / size**0.5 + future).softmax(-1) @ values
        if layer >= shape.adapter_start_layer:
            name = f"transformer.h.{layer}.attn"
            _, prompt_keys, prompt_values = by_group(adapter[f"{name}.adapter_wte.weight"] @ weight.T + bias)
            gate = adapter[f"{name}.gating_factor"].reshape(-1, 1, 1)
            mixed = mixed + gate * ((queries @ prompt_keys.mT / size**0.5).softmax(-1) @ prompt_values)
        projected = mixed.transpose(0, 1).flatten(1) @ weights[f"{layer}.proj"].T
        hidden = hidden + projected + (weights[f"{layer}.proj.bias"] if shape.bias else 0.0)
        normed = _normed(hidden, weights[f"{layer}.norm_2"], shape.norm_eps)
        inner = torch.nn.functional.silu(normed @ weights[f"{layer}.fc_1"].T) * (normed @ weights[f"{layer}.fc_2"].T)
        hidden = hidden + inner @ weights[f"{layer}.mlp_proj"].T
    return _normed(hidden, weights["ln_f"], shape.norm_eps) @ weights["lm_head"].T


def litgpt_adapter(shape: Shape, length: int, seed: int = 1) -> dict[str, Tensor]:
    """A random adapter as litgpt saves it."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in range(shape.adapter_start_layer, shape.n_layer):
        name = f"transformer.h.{layer}.attn"
        tensors[f"{name}.adapter_wte.weight"] = torch.randn(length, shape.n_embd, generator=generator)
        tensors[f"{name}.gating_factor"] = torch.randn(1, 1, shape.n_head, 1, generator=generator)
    return tensors
