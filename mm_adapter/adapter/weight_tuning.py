"""Biases, norms and low-rank updates of a frozen LLaMA that belong to an adapter (LLaMA-Adapter V2, arXiv 2304.15010).

The frozen model stays as it is: ``tuned`` returns a second one that shares its weights and looks the updates up.
"""

import copy
from collections.abc import Mapping
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mm_adapter.llama.config import LlamaConfig
from mm_adapter.llama.model import Llama, RMSNorm

BIASED = ("attention.query", "attention.output", "mlp.gate", "mlp.up", "mlp.down")
"""Projections that get a bias or scale; keys and values get none."""
_Module = TypeVar("_Module", bound=nn.Module)


def projection_sizes(llama: LlamaConfig) -> dict[str, tuple[int, int]]:
    """Return the outputs and inputs of a layer's seven projections, by name."""
    hidden, inner = llama.hidden_size, llama.intermediate_size
    queries, keys = llama.num_heads * llama.head_dim, llama.num_kv_heads * llama.head_dim
    return {
        "attention.query": (queries, hidden),
        "attention.key": (keys, hidden),
        "attention.value": (keys, hidden),
        "attention.output": (hidden, queries),
        "mlp.gate": (inner, hidden),
        "mlp.up": (inner, hidden),
        "mlp.down": (hidden, inner),
    }


class LinearUpdate(nn.Module):
    """What becomes of a projection's output: ``s (W x + B A x + b)``.

    Low-rank updates have scale 1 (arXiv 2106.09685); scale and bias are those of LLaMA-Adapter V2 (arXiv 2304.15010,
    section 3.1), whose published checkpoints have no scale.

    Attributes:
        lora_a: ``(rank, inputs)``, lora_b: ``(outputs, rank)``, float32; None with rank 0.
        bias, scale: ``(outputs,)`` float32, or None.
    """

    lora_a: nn.Parameter | None
    lora_b: nn.Parameter | None
    bias: nn.Parameter | None
    scale: nn.Parameter | None

    def __init__(self, outputs: int, inputs: int, rank: int, bias: bool, scale: bool) -> None:
        super().__init__()
        self.lora_a = nn.Parameter(torch.randn(rank, inputs) * inputs**-0.5) if rank else None
        self.lora_b = nn.Parameter(torch.zeros(outputs, rank)) if rank else None
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.scale = nn.Parameter(torch.ones(outputs)) if scale else None

    def forward(self, features: Tensor, projected: Tensor) -> Tensor:
        """Return what becomes of ``projected`` ``(..., outputs)``, the output for ``features`` ``(..., inputs)``."""
        dtype = projected.dtype
        if self.lora_a is not None and self.lora_b is not None:
            projected = projected + F.linear(F.linear(features, self.lora_a.to(dtype)), self.lora_b.to(dtype))
        if self.bias is not None:
            projected = projected + self.bias.to(dtype)
        return projected if self.scale is None else projected * self.scale.to(dtype)


class LayerTuning(nn.Module):
    """The updates of one decoder layer.

    Attributes:
        attention, mlp: ``LinearUpdate`` by projection; projections without one are absent.
        attention_norm, mlp_norm: ``(D,)`` float32 in the place of the layer's own, or None.
    """

    attention_norm: nn.Parameter | None
    mlp_norm: nn.Parameter | None

    def __init__(self, llama: LlamaConfig, biases: bool, norms: bool, rank: int, scales: bool) -> None:
        super().__init__()
        self.attention, self.mlp = nn.ModuleDict(), nn.ModuleDict()
        for name, (outputs, inputs) in projection_sizes(llama).items():
            bias, scale = (wanted and name in BIASED for wanted in (biases, scales))
            if bias or scale or rank:
                room, projection = name.split(".")
                self.get_submodule(room).add_module(projection, LinearUpdate(outputs, inputs, rank, bias, scale))
        self.attention_norm = nn.Parameter(torch.ones(llama.hidden_size)) if norms else None
        self.mlp_norm = nn.Parameter(torch.ones(llama.hidden_size)) if norms else None


class WeightTuning(nn.Module):
    """The updates of a whole model; biases and updates start at zero, norms and scales at one.

    Args:
        llama: shape of the model.
        biases: the projections ``BIASED`` of every layer get a bias.
        norms: every norm has a weight of its own.
        rank: of the low-rank updates of all seven projections; 0 for none.
        scales: the outputs of the projections ``BIASED`` of every layer have a scale.
    """

    norm: nn.Parameter | None

    def __init__(self, llama: LlamaConfig, biases: bool, norms: bool, rank: int, scales: bool = False) -> None:
        super().__init__()
        layers = (LayerTuning(llama, biases, norms, rank, scales) for _ in range(llama.num_layers))
        self.layers = nn.ModuleList(layers)
        self.norm = nn.Parameter(torch.ones(llama.hidden_size)) if norms else None

    @torch.no_grad()
    def start_from(self, llama: Llama) -> None:
        """Take over the norms of ``llama``, so that training begins with what the frozen model computes."""
        pairs: list[tuple[nn.Parameter | None, RMSNorm]] = [(self.norm, llama.norm)]
        for own, layer in zip(self.layers, llama.layers, strict=True):
            pairs += [(getattr(own, name), getattr(layer, name)) for name in ("attention_norm", "mlp_norm")]
        for weight, frozen in pairs:
            if weight is not None:
                weight.copy_(frozen.weight)


class TunedLinear(nn.Module):
    """A frozen projection and its update.

    Attributes:
        frozen: the projection alone, as adaption prompts go through it.
    """

    update: LinearUpdate

    def __init__(self, frozen: nn.Module, update: LinearUpdate) -> None:
        super().__init__()
        self.frozen = frozen
        object.__setattr__(self, "update", update)  # not a submodule: its weights are the adapter's

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(..., inputs)`` to ``(..., outputs)``."""
        added: Tensor = self.update.forward(features, self.frozen(features))
        return added


class TunedNorm(RMSNorm):
    """A norm with an adapter's weight, in the dtype of the frozen one."""

    _own: nn.Parameter

    def __init__(self, frozen: RMSNorm, weight: nn.Parameter) -> None:
        nn.Module.__init__(self)
        self.epsilon, self._dtype = frozen.epsilon, frozen.weight.dtype
        object.__setattr__(self, "_own", weight)  # not a parameter: it is the adapter's

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """Of each channel, ``(D,)``."""
        return self._own.to(self._dtype)


def tuned(llama: Llama, tuning: WeightTuning) -> Llama:
    """Return a model that computes with the updates; it shares every weight of ``llama``, which stays as it is."""
    model = _replaced(llama, {})
    layers = [_tuned_layer(layer, own) for layer, own in zip(llama.layers, tuning.layers, strict=True)]
    model.layers = nn.ModuleList(layers)
    if tuning.norm is not None:
        model.norm = TunedNorm(llama.norm, tuning.norm)
    return model


def _tuned_layer(layer: nn.Module, own: nn.Module) -> nn.Module:
    assert isinstance(own, LayerTuning)
    parts: dict[str, nn.Module] = {}
    for room, updates in (("attention", own.attention), ("mlp", own.mlp)):
        frozen = layer.get_submodule(room)
        linears = {name: TunedLinear(frozen.get_submodule(name), update) for name, update in updates.items()}  # type: ignore[arg-type]
        parts[room] = _replaced(frozen, linears)
    for name, weight in (("attention_norm", own.attention_norm), ("mlp_norm", own.mlp_norm)):
        if weight is not None:
            parts[name] = TunedNorm(layer.get_submodule(name), weight)  # type: ignore[arg-type]
    return _replaced(layer, parts)


def _replaced(module: _Module, children: Mapping[str, nn.Module]) -> _Module:
    """Return a module that shares the weights and children of ``module``, save the children that are given."""
    twin = copy.copy(module)
    twin._modules = {**module._modules, **children}
    return twin
