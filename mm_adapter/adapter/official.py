"""Import of the original repository's V1 adapters (``adapter_query.weight``, ``layers.N.attention.gate``)."""

from pathlib import Path

import torch
from torch import Tensor

from mm_adapter.adapter.adapter import Adapter
from mm_adapter.adapter.config import AdapterConfig
from mm_adapter.errors import UserError
from mm_adapter.llama.config import LlamaConfig
from mm_adapter.llama.meta import read_tensors

QUERY = "adapter_query.weight"


def gate_name(layer: int) -> str:
    """Return the original's name of a layer's gate."""
    return f"layers.{layer}.attention.gate"


def read_official(path: Path, llama: LlamaConfig, layers: int) -> Adapter:
    """Read an adapter that the original's training code saved (gates before tanh).

    Args:
        path: ``.pth`` with ``adapter_query.weight`` ``(L * K, D)`` and gates ``(1, H, 1, 1)`` per layer.
        llama: shape of the base model.
        layers: adapted layers, L; the file does not say.

    Raises:
        UserError: a tensor is missing or misshapen, or the rows cannot be shared out over the layers.
    """
    tensors = read_tensors(path)
    if QUERY not in tensors:
        raise UserError(f"{path}: {QUERY} is missing; this is not an adapter of the original V1 code.")
    rows, width = tensors[QUERY].shape
    if layers < 1 or rows % layers or width != llama.hidden_size:
        raise UserError(
            f"{path}: {QUERY} has shape {(rows, width)}, "
            f"which {layers} layers of width {llama.hidden_size} cannot share."
        )
    adapter = Adapter(AdapterConfig(layers=layers, prompt_length=rows // layers), llama)
    gates = [_gate(path, tensors, layer, llama) for layer in range(adapter.first_layer, llama.num_layers)]
    assert adapter.gates is not None
    with torch.no_grad():
        adapter.prompts.copy_(tensors[QUERY].view(adapter.prompts.shape))
        adapter.gates.copy_(torch.stack(gates))
    return adapter


def _gate(path: Path, tensors: dict[str, Tensor], layer: int, llama: LlamaConfig) -> Tensor:
    gate = tensors.get(gate_name(layer))
    if gate is None or gate.numel() != llama.num_heads:
        found = "missing" if gate is None else f"of shape {tuple(gate.shape)}"
        raise UserError(f"{path}: {gate_name(layer)} is {found}, expected (1, {llama.num_heads}, 1, 1).")
    return gate.flatten()
