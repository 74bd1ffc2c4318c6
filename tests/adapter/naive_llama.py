"""The adapted decoder written a second time, straight from the paper and slowly: what the package is held against.

Shares no code with the package: rotary embedding by complex numbers, key heads repeated, the prompts of every sample
repeated K times and projected each, softmaxes by hand.
"""

import torch
from torch import Tensor

from mm_adapter.adapter import Adapter
from mm_adapter.llama import Llama


def normalise(hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    return hidden / (hidden.pow(2).mean(-1, keepdim=True) + epsilon).sqrt() * weight


def turn(heads: Tensor, theta: float) -> Tensor:
    half = heads.shape[-1] // 2
    speeds = theta ** (-torch.arange(half) / half)
    angles = torch.arange(heads.shape[-2])[:, None] * speeds
    turned = torch.complex(heads[..., :half], heads[..., half:]) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat((turned.real, turned.imag), dim=-1)


def sample_prompts(adapter: Adapter, image: Tensor | None) -> Tensor:
    """Prompts ``(L, K, D)`` of one sample: P_l + I_p, I_p repeated over K (the paper's eq. 6), or V2's own vectors."""
    if image is None or adapter.places is not None:
        return adapter.prompts
    if adapter.visual_query is not None:
        return torch.stack([own + adapter.visual_query(image[None])[0] for own in adapter.prompts])
    assert adapter.projection is not None
    vector = adapter.projection(image[None])[0]
    return adapter.prompts + vector[None, None].repeat(adapter.prompts.shape[0], adapter.prompts.shape[1], 1)


def piece_prompts(adapter: Adapter, image: Tensor, layer: int) -> Tensor:
    """Prompts ``(P, D)`` that the pieces of a picture are in an adapted layer, piece by piece."""
    assert adapter.projection is not None
    assert adapter.places is not None
    widths, start, rows = adapter.config.image_pieces, 0, []
    for number, width in enumerate(widths):
        piece = torch.zeros(max(widths))
        piece[:width] = image[start : start + width]
        start += width
        rows.append(adapter.projection(piece[None])[0] + adapter.places[layer, number])
    return torch.stack(rows)


def naive_logits(llama: Llama, tokens: Tensor, adapter: Adapter, image: Tensor | None = None) -> Tensor:
    """Logits ``(T, V)`` of one sequence ``(T,)`` with one image feature ``(F,)``, tokens ``(T, E)`` or none."""
    config, weights = llama.config, llama.state_dict()
    width, share = config.head_dim, config.num_heads // config.num_kv_heads
    prompts = sample_prompts(adapter, image)

    def heads(flat: Tensor) -> Tensor:
        return flat.view(flat.shape[0], -1, width).transpose(0, 1)

    def linear(layer: int, name: str, features: Tensor) -> Tensor:
        result = features @ weights[f"layers.{layer}.{name}.weight"].T
        bias = weights.get(f"layers.{layer}.{name}.bias")
        return result if bias is None else result + bias

    hidden = weights["embedding.weight"][tokens]
    hidden_mask = torch.full((len(tokens), len(tokens)), float("-inf")).triu(1)
    for layer in range(config.num_layers):
        normed = normalise(hidden, weights[f"layers.{layer}.attention_norm.weight"], config.norm_epsilon)
        queries = turn(heads(linear(layer, "attention.query", normed)), config.rope_theta)
        keys = turn(heads(linear(layer, "attention.key", normed)), config.rope_theta).repeat_interleave(share, 0)
        values = heads(linear(layer, "attention.value", normed)).repeat_interleave(share, 0)
        text_scores = queries @ keys.transpose(1, 2) / width**0.5 + hidden_mask
        index = layer - (config.num_layers - adapter.config.layers)
        if index < 0:
            mixed = text_scores.softmax(-1) @ values
        else:
            prompt_keys = heads(linear(layer, "attention.key", prompts[index])).repeat_interleave(share, 0)
            prompt_values = heads(linear(layer, "attention.value", prompts[index])).repeat_interleave(share, 0)
            prompt_scores = queries @ prompt_keys.transpose(1, 2) / width**0.5
            if adapter.gates is None:
                joined = torch.cat((prompt_scores, text_scores), dim=-1).softmax(-1)
                mixed = joined @ torch.cat((prompt_values, values), dim=1)
            else:
                strength = torch.tanh(adapter.gates[index])[:, None, None]
                mixed = text_scores.softmax(-1) @ values + strength * (prompt_scores.softmax(-1) @ prompt_values)
                if adapter.image_gates is not None and image is not None:
                    pieces = piece_prompts(adapter, image, index)
                    piece_keys = heads(linear(layer, "attention.key", pieces)).repeat_interleave(share, 0)
                    piece_values = heads(linear(layer, "attention.value", pieces)).repeat_interleave(share, 0)
                    piece_scores = queries @ piece_keys.transpose(1, 2) / width**0.5
                    strength = torch.tanh(adapter.image_gates[index])[:, None, None]
                    mixed = mixed + strength * (piece_scores.softmax(-1) @ piece_values)
        hidden = hidden + linear(layer, "attention.output", mixed.transpose(0, 1).flatten(1))
        normed = normalise(hidden, weights[f"layers.{layer}.mlp_norm.weight"], config.norm_epsilon)
        gate = linear(layer, "mlp.gate", normed)
        hidden = hidden + linear(layer, "mlp.down", gate * gate.sigmoid() * linear(layer, "mlp.up", normed))
    head = weights["embedding.weight" if config.tied_embeddings else "head.weight"]
    return normalise(hidden, weights["norm.weight"], config.norm_epsilon) @ head.T
