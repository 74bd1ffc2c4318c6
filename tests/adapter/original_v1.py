"""The original V1 model, written again from its published definition: what adapters in its layout are held against.

Shares no code with the package. Weights and adapter are dictionaries with the names of the original's files; rotary
embedding turns adjacent channels, as there; the gate is squashed (training code) or not (inference code).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

SIZES = {"vocab": 120, "dim": 32, "layers": 4, "heads": 4, "inner": 56}
EPSILON = 1e-5


def original_base(seed: int = 0) -> dict[str, Tensor]:
    """Random weights in Meta's naming, norms and embeddings of realistic spread."""
    generator = torch.Generator().manual_seed(seed)
    dim, inner, vocab = SIZES["dim"], SIZES["inner"], SIZES["vocab"]
    shapes = {"tok_embeddings": (vocab, dim), "output": (vocab, dim), "norm": (dim,)}
    for layer in range(SIZES["layers"]):
        start = f"layers.{layer}"
        shapes |= {f"{start}.attention.{name}": (dim, dim) for name in ("wq", "wk", "wv", "wo")}
        shapes |= {f"{start}.feed_forward.{name}": (inner, dim) for name in ("w1", "w3")}
        shapes |= {f"{start}.feed_forward.w2": (dim, inner), f"{start}.attention_norm": (dim,)}
        shapes |= {f"{start}.ffn_norm": (dim,)}
    weights = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        weights[f"{name}.weight"] = 1 + 0.1 * noise if name.endswith("norm") else 0.15 * noise
    return weights


def original_adapter(layers: int, length: int, seed: int = 1, spread: float = 1.0) -> dict[str, Tensor]:
    """A random adapter in the original's layout: gates for every layer of the model, whether it is adapted or not."""
    generator = torch.Generator().manual_seed(seed)
    heads = SIZES["heads"]
    gates = {
        f"layers.{layer}.attention.gate": spread * torch.randn(1, heads, 1, 1, generator=generator)
        for layer in range(SIZES["layers"])
    }
    return {**gates, "adapter_query.weight": torch.randn(layers * length, SIZES["dim"], generator=generator)}


def _normed(hidden: Tensor, weight: Tensor) -> Tensor:
    return weight * hidden / (hidden.square().mean(-1, keepdim=True) + EPSILON).sqrt()


def _turned(heads: Tensor) -> Tensor:
    """Rotate ``(H, T, head_dim)``: channels 2i and 2i + 1 are one complex number."""
    _, length, width = heads.shape
    speeds = 10000.0 ** (-torch.arange(0, width, 2) / width)
    angles = torch.arange(length)[:, None] * speeds
    pairs = torch.view_as_complex(heads.reshape(*heads.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2)


def original_logits(
    base: Mapping[str, Tensor], adapter: Mapping[str, Tensor], tokens: Tensor, layers: int, tanh: bool
) -> Tensor:
    """Logits ``(T, V)`` of one sequence ``(T,)``; ``tanh`` as in the training code, without it as in inference."""
    total, heads = SIZES["layers"], SIZES["heads"]

    def split(flat: Tensor) -> Tensor:
        return flat.view(flat.shape[0], heads, -1).transpose(0, 1)

    prompts = adapter["adapter_query.weight"].reshape(layers, -1, SIZES["dim"])
    hidden = base["tok_embeddings.weight"][tokens]
    future = torch.full((len(tokens), len(tokens)), float("-inf")).triu(1)
    for layer in range(total):
        start = f"layers.{layer}"
        normed = _normed(hidden, base[f"{start}.attention_norm.weight"])
        queries, keys, values = (split(normed @ base[f"{start}.attention.w{kind}.weight"].T) for kind in "qkv")
        queries, keys = _turned(queries), _turned(keys)
        scale = queries.shape[-1] ** 0.5
        mixed = (queries @ keys.mT / scale + future).softmax(-1) @ values
        if layer >= total - layers:
            own = prompts[layer - (total - layers)]
            prompt_keys, prompt_values = (split(own @ base[f"{start}.attention.w{kind}.weight"].T) for kind in "kv")
            gate = adapter[f"{start}.attention.gate"][0]
            gate = gate.tanh() if tanh else gate
            mixed = mixed + (gate * (queries @ prompt_keys.mT / scale).softmax(-1)) @ prompt_values
        hidden = hidden + mixed.transpose(0, 1).flatten(1) @ base[f"{start}.attention.wo.weight"].T
        normed = _normed(hidden, base[f"{start}.ffn_norm.weight"])
        gate_part, up = (normed @ base[f"{start}.feed_forward.{name}.weight"].T for name in ("w1", "w3"))
        hidden = hidden + (gate_part * gate_part.sigmoid() * up) @ base[f"{start}.feed_forward.w2.weight"].T
    return _normed(hidden, base["norm.weight"]) @ base["output.weight"].T
