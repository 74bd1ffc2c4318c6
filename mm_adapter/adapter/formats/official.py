"""The original repository's V1 adapters (``adapter_query.weight``, ``layers.N.attention.gate``), in and out."""

import re
from pathlib import Path

import torch
from torch import Tensor

from mm_adapter.adapter import Adapter, AdapterConfig
from mm_adapter.adapter.formats.foreign import (
    build_adapter,
    check_tensors,
    gate_strengths,
    refuse_foreign_heads,
    refuse_inexpressible,
)
from mm_adapter.core.errors import UserError
from mm_adapter.core.files import write_atomically
from mm_adapter.llama.checkpoints.meta import read_tensors
from mm_adapter.llama.config import LlamaConfig

QUERY = "adapter_query.weight"
GATES = ("tanh", "plain")
PROMPT_LENGTH = 10  # of every adapter that was published, and what the original's inference code takes for granted
_NAME = "the original V1 layout"
# A checkpoint of the original's training holds the frozen model as well.
_BASE = re.compile(
    r"(tok_embeddings|norm|output)\.weight|rope\.freqs"
    r"|layers\.\d+\.(attention\.(w[qkvo]\.weight|gate)|feed_forward\.w[123]\.weight|(attention|ffn)_norm\.weight)"
)


def gate_name(layer: int) -> str:
    """Return the original's name of a layer's gate."""
    return f"layers.{layer}.attention.gate"


def read_official(path: Path, llama: LlamaConfig, layers: int | None = None, gate: str = "tanh") -> Adapter:
    """Read an adapter of the original V1 code.

    Args:
        path: ``.pth`` with ``adapter_query.weight`` ``(L * K, D)`` and gates ``(1, H, 1, 1)`` per layer.
        llama: shape of the base model.
        layers: adapted layers, L; the file does not say. None: as many as there are tens of prompts.
        gate: ``tanh``, as the original's training code uses its gates, or ``plain``, as its inference code does.

    Raises:
        UserError: a tensor is missing, misshapen or of another variant, or the rows cannot be shared out.
    """
    _check_gate(gate)
    tensors = read_tensors(path)
    if "visual_query.weight" in tensors:
        raise UserError(f"{path}: an adapter of the original V2 multimodal code; convert it with --from official-v2.")
    if QUERY not in tensors or tensors[QUERY].ndim != 2:
        raise UserError(f"{path}: {QUERY} is missing or no matrix; this is not an adapter of the original V1 code.")
    rows, width = tensors[QUERY].shape
    if layers is None:
        if rows < 1 or rows % PROMPT_LENGTH:
            raise UserError(
                f"{path}: {rows} rows are not ten prompts a layer; say with --layers how many layers share them."
            )
        layers = rows // PROMPT_LENGTH
    if layers < 1 or rows < 1 or rows % layers or width != llama.hidden_size:
        raise UserError(
            f"{path}: {QUERY} has shape {(rows, width)}, "
            f"which {layers} layers of width {llama.hidden_size} cannot share."
        )
    activation = "tanh" if gate == "tanh" else "none"
    config = AdapterConfig(layers=layers, prompt_length=rows // layers, gate_activation=activation)
    adapted = range(max(0, llama.num_layers - layers), llama.num_layers)
    names = [gate_name(layer) for layer in adapted]
    surplus = [name for name in tensors if name != QUERY and not _BASE.fullmatch(name)]
    wanted: dict[str, list[tuple[int, ...]]] = {QUERY: [(rows, width)]}
    check_tensors(path, tensors, wanted | {name: [(1, llama.num_heads, 1, 1)] for name in names}, surplus)
    if layers > llama.num_layers:
        raise UserError(f"{path}: prompts for {layers} layers, the model has {llama.num_layers}; see --layers.")
    prompts = tensors[QUERY].view(layers, -1, width)
    return build_adapter(path, config, llama, list(prompts), [tensors[name] for name in names])


def write_official(path: Path, adapter: Adapter, llama: LlamaConfig, gate: str = "tanh") -> None:
    """Write an adapter for the original V1 code.

    Gates stand there for every layer of the model; those below the first adapted one are never read.

    Args:
        gate: ``tanh`` for the original's training code, ``plain`` for its inference code.

    Raises:
        UserError: the layout cannot hold the adapter, the original cannot run the model, or ``path`` cannot be written.
    """
    _check_gate(gate)
    refuse_inexpressible(adapter, _NAME)
    refuse_foreign_heads(adapter, _NAME)
    refuse_other_models(llama, "the original V1 code")
    gates = torch.zeros(llama.num_layers, llama.num_heads)
    gates[adapter.first_layer :] = gate_strengths(adapter) if gate == "plain" else _before_tanh(adapter)
    tensors = {QUERY: adapter.prompts.detach().cpu().flatten(0, 1)}
    tensors |= {gate_name(layer): gates[layer].clone().view(1, -1, 1, 1) for layer in range(llama.num_layers)}
    write_atomically(path, lambda temporary: torch.save(tensors, temporary))


def _check_gate(gate: str) -> None:
    if gate not in GATES:
        raise UserError(f"gate {gate!r} is not known; {' and '.join(GATES)} are.")


def _before_tanh(adapter: Adapter) -> Tensor:
    assert adapter.gates is not None
    if adapter.config.gate_activation == "tanh":
        return adapter.gates.detach().cpu()
    strengths = gate_strengths(adapter)
    index = int(strengths.abs().argmax())
    strongest = float(strengths.flatten()[index])
    if abs(strongest) >= 1:
        layer, head = adapter.first_layer + index // strengths.shape[1], index % strengths.shape[1]
        raise UserError(
            f"{_NAME} with tanh cannot hold this adapter: the gate of layer {layer}, head {head} is {strongest:.6g}, "
            "and tanh stays below 1. Write gates for the inference code with --gate plain."
        )
    # In float64: near 1 the slope of atanh would cost float32 its last digits.
    return strengths.double().atanh().float()


def refuse_other_models(llama: LlamaConfig, code: str) -> None:
    """Refuse a model that the original repository cannot run; ``code`` is which of its programs, for the message.

    Raises:
        UserError: the model is no LLaMA 1 by its arithmetic.
    """
    differences = {
        "grouped queries": llama.num_kv_heads != llama.num_heads,
        "a bias in its attention": llama.attention_bias,
        "a bias in its feed-forward network": llama.mlp_bias,
        "scaled rotary frequencies": llama.rope_scaling is not None,
        f"rotary base {llama.rope_theta:g}": llama.rope_theta != 10000.0,
        "heads that are not D / H wide": llama.head_dim * llama.num_heads != llama.hidden_size,
    }
    found = [name for name, there in differences.items() if there]
    if found:
        raise UserError(f"{code} runs LLaMA 1 alone; this model has {', '.join(found)}.")
