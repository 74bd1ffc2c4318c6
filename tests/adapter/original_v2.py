"""The original multimodal V2 model, written again from its published definition: what its files are held against.

Shares no code with the package. Weights and adapter are dictionaries with the names of the original's files.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from original_v1 import EPSILON, SIZES, _normed, _turned
from torch import Tensor

WIDTH, HEADS, TOKENS, LENGTH, LAYERS, RANK = 24, 2, 12, 5, 3, 2
"""Of the visual blocks, their heads, the tower's tokens; prompts of a layer, adapted layers, rank of the updates."""


def original_adapter_v2(lora: bool, seed: int = 2) -> dict[str, Tensor]:
    """A random adapter in the original's layout, without anything left at its initial value."""
    dim, inner = SIZES["dim"], SIZES["inner"]
    shapes: dict[str, tuple[int, ...]] = {
        "clip_proj.weight": (WIDTH, TOKENS),
        "clip_proj.bias": (WIDTH,),
        "visual_query.weight": (LENGTH, WIDTH),
        "visual_proj.weight": (dim, WIDTH),
        "visual_proj.bias": (dim,),
        "adapter_query.weight": (LAYERS * LENGTH, dim),
        "llama.norm.weight": (dim,),
    }
    norms = {"clip_proj_norm": WIDTH, "visual_proj_norm": dim}
    for block in range(2):
        start = f"visual_blocks.{block}"
        linears = {"attn.qkv": (72, 24), "attn.proj": (24, 24), "mlp.fc1": (36, 24), "mlp.fc2": (24, 36)}
        for name, (outputs, inputs) in linears.items():
            shapes |= {f"{start}.{name}.weight": (outputs, inputs), f"{start}.{name}.bias": (outputs,)}
        norms |= {f"{start}.norm1": WIDTH, f"{start}.norm2": WIDTH}
    for name, size in norms.items():
        shapes |= {f"{name}.weight": (size,), f"{name}.bias": (size,)}
    sizes = {f"attention.w{kind}": (dim, dim) for kind in "qkvo"}
    sizes |= {f"feed_forward.w{kind}": (inner, dim) for kind in "13"} | {"feed_forward.w2": (dim, inner)}
    for layer in range(SIZES["layers"]):
        start = f"llama.layers.{layer}"
        shapes[f"{start}.attention.gate"] = (1, SIZES["heads"], 1, 1)
        shapes |= {f"{start}.{name}.weight": (dim,) for name in ("attention_norm", "ffn_norm")}
        for name, (outputs, inputs) in sizes.items():
            if name[-1] not in "kv":
                shapes[f"{start}.{name}.bias"] = (outputs,)
            if lora:
                room, projection = name.split(".")
                shapes[f"{start}.{room}.lora_{projection}_l1.weight"] = (RANK, inputs)
                shapes[f"{start}.{room}.lora_{projection}_l2.weight"] = (outputs, RANK)
        if lora:
            shapes[f"{start}.attention.new_gate"] = (1, 1, 1, 1)
    generator = torch.Generator().manual_seed(seed)
    one = ("norm.weight", "norm1.weight", "norm2.weight", "new_gate")
    return {
        name: 0.3 * torch.randn(shape, generator=generator) + float(name.endswith(one))
        for name, shape in shapes.items()
    }


def original_visual_query(adapter: Mapping[str, Tensor], tokens: Tensor, epsilon: float = 1e-5) -> Tensor:
    """The vectors ``(K, D)`` of one picture's tokens ``(T, E)``."""

    def linear(name: str, features: Tensor) -> Tensor:
        return features @ adapter[f"{name}.weight"].T + adapter[f"{name}.bias"]

    def norm(name: str, features: Tensor, small: float = 1e-5) -> Tensor:
        centred = features - features.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + small).sqrt()
        return scaled * adapter[f"{name}.weight"] + adapter[f"{name}.bias"]

    hidden = torch.cat((adapter["visual_query.weight"], norm("clip_proj_norm", linear("clip_proj", tokens))))
    for block in range(2):
        start = f"visual_blocks.{block}"
        projected = linear(f"{start}.attn.qkv", norm(f"{start}.norm1", hidden, epsilon))
        queries, keys, values = (part.view(len(hidden), HEADS, -1).transpose(0, 1) for part in projected.chunk(3, -1))
        mixed = (queries @ keys.mT * queries.shape[-1] ** -0.5).softmax(-1) @ values
        hidden = hidden + linear(f"{start}.attn.proj", mixed.transpose(0, 1).flatten(1))
        inside = F.gelu(linear(f"{start}.mlp.fc1", norm(f"{start}.norm2", hidden, epsilon)))
        hidden = hidden + linear(f"{start}.mlp.fc2", inside)
    return norm("visual_proj_norm", linear("visual_proj", hidden[:LENGTH]))


def original_logits_v2(
    base: Mapping[str, Tensor], adapter: Mapping[str, Tensor], tokens: Tensor, seen: Tensor
) -> Tensor:
    """Logits ``(T, V)`` of one sequence ``(T,)`` about a picture whose tokens are ``seen`` ``(T', E)``."""
    total, heads = SIZES["layers"], SIZES["heads"]
    prompts = adapter["adapter_query.weight"].view(LAYERS, LENGTH, -1) + original_visual_query(adapter, seen)

    def project(layer: int, name: str, features: Tensor) -> Tensor:
        result = features @ base[f"layers.{layer}.{name}.weight"].T
        room, projection = name.split(".")
        update = f"llama.layers.{layer}.{room}.lora_{projection}"
        if f"{update}_l1.weight" in adapter:
            result = result + features @ adapter[f"{update}_l1.weight"].T @ adapter[f"{update}_l2.weight"].T
        bias = adapter.get(f"llama.layers.{layer}.{name}.bias")
        return result if bias is None else result + bias

    def split(flat: Tensor) -> Tensor:
        return flat.view(flat.shape[0], heads, -1).transpose(0, 1)

    hidden = base["tok_embeddings.weight"][tokens]
    future = torch.full((len(tokens), len(tokens)), float("-inf")).triu(1)
    for layer in range(total):
        start = f"llama.layers.{layer}"
        normed = _normed(hidden, adapter[f"{start}.attention_norm.weight"])
        queries, keys, values = (split(project(layer, f"attention.w{kind}", normed)) for kind in "qkv")
        queries, keys = _turned(queries), _turned(keys)
        scale = queries.shape[-1] ** 0.5
        mixed = (queries @ keys.mT / scale + future).softmax(-1) @ values
        if layer >= total - LAYERS:
            own = prompts[layer - (total - LAYERS)]
            bare = {kind: split(own @ base[f"layers.{layer}.attention.w{kind}.weight"].T) for kind in "kv"}
            gate = adapter[f"{start}.attention.gate"][0].tanh() * adapter.get(f"{start}.attention.new_gate", [1.0])[0]
            mixed = mixed + gate * ((queries @ bare["k"].mT / scale).softmax(-1) @ bare["v"])
        hidden = hidden + project(layer, "attention.wo", mixed.transpose(0, 1).flatten(1))
        normed = _normed(hidden, adapter[f"{start}.ffn_norm.weight"])
        gate_part, up = (project(layer, f"feed_forward.{name}", normed) for name in ("w1", "w3"))
        hidden = hidden + project(layer, "feed_forward.w2", gate_part * gate_part.sigmoid() * up)
    assert EPSILON == 1e-5
    return _normed(hidden, adapter["llama.norm.weight"]) @ base["output.weight"].T
