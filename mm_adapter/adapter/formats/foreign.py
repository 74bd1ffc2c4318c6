"""What conversions from and to other projects share: building an adapter, naming what a format cannot hold."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mm_adapter.adapter import Adapter, AdapterConfig
from mm_adapter.core.errors import UserError
from mm_adapter.llama.config import LlamaConfig


def build_adapter(
    path: Path, config: AdapterConfig, llama: LlamaConfig, prompts: Sequence[Tensor], gates: Sequence[Tensor]
) -> Adapter:
    """Return an adapter with the tensors of a file, lowest layer first.

    Args:
        path: of the file, for messages.
        prompts: L tensors of K * D values.
        gates: L tensors of H values, or of one that all heads share.

    Raises:
        UserError: the model has fewer layers, or a value is not finite.
    """
    adapter = Adapter(config, llama)
    assert adapter.gates is not None
    with torch.no_grad():
        for index, (prompt, gate) in enumerate(zip(prompts, gates, strict=True)):
            adapter.prompts[index] = prompt.reshape(adapter.prompts.shape[1:])
            adapter.gates[index] = gate.flatten()
    for name, tensor in (("adaption prompts", adapter.prompts), ("gates", adapter.gates)):
        broken = (~tensor.isfinite()).flatten(1).any(dim=1).nonzero()
        if len(broken):
            layer = adapter.first_layer + int(broken[0])
            raise UserError(f"{path}: {name} of layer {layer} hold values that are not finite; it is unusable.")
    return adapter


def check_tensors(
    path: Path, tensors: Mapping[str, Tensor], wanted: Mapping[str, Sequence[tuple[int, ...]]], surplus: Sequence[str]
) -> None:
    """Refuse a file whose tensors are missing, misshapen or more than can be used, by name.

    Args:
        path: of the file, for messages.
        wanted: name -> shapes that it may have.
        surplus: names that have no place in the format.

    Raises:
        UserError: something is wrong; names the first five.
    """
    problems = [f"{name} is missing" for name in wanted if name not in tensors]
    problems += [
        f"{name} is of shape {tuple(tensors[name].shape)}, expected {' or '.join(map(str, shapes))}"
        for name, shapes in wanted.items()
        if name in tensors and tuple(tensors[name].shape) not in shapes
    ]
    problems += [f"{name} has no place in this format and would be lost" for name in surplus]
    problems += [
        f"{name} is no plain tensor of floating-point numbers"
        for name in wanted
        if name in tensors and not is_plain(tensors[name])
    ]
    if problems:
        rest = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise UserError(f"{path}: {'; '.join(problems[:5])}{rest}. Check the format, and the model named by --llama.")


def is_plain(tensor: Tensor) -> bool:
    """Tell whether a tensor of floating-point numbers holds all the values that its shape claims."""
    # A view may claim far more values than the file holds, and fill the memory when it is copied.
    held = tensor.layout == torch.strided and not tensor.is_meta and tensor.is_floating_point()
    return held and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def refuse_inexpressible(adapter: Adapter, target: str) -> None:
    """Refuse an adapter with parts that only this project's format has.

    Args:
        target: the other format, as a person would call it.

    Raises:
        UserError: random-init attention, a projection of pictures, or what only LLaMA-Adapter V2 has.
    """
    if adapter.gates is None:
        raise UserError(f"{target} cannot hold this adapter: with random-init attention it has no gates.")
    if adapter.config.image_prompts == "query" or adapter.config.tunes_weights or adapter.config.prompt_scale:
        raise UserError(
            f"{target} cannot hold this adapter: it is one of LLaMA-Adapter V2, with parts that have no place there. "
            "Use --to official-v2."
        )
    if adapter.projection is not None:
        raise UserError(
            f"{target} cannot hold this adapter: there is no place for the projection of its pictures. "
            "Train a text-only adapter (--vision none) to use it there."
        )


def refuse_foreign_heads(adapter: Adapter, target: str) -> None:
    """Refuse an adapter whose prompt keys and values are those of litgpt since 0.5.5.

    Raises:
        UserError: it is one.
    """
    if adapter.config.prompt_heads != "own":
        raise UserError(
            f"{target} cannot hold this adapter: it was trained by litgpt 0.5.5 or later, which takes prompt keys and "
            "values from other heads than every other implementation. Only litgpt and mm-adapter can hold it."
        )


def gate_strengths(adapter: Adapter) -> Tensor:
    """Return what multiplies the attention to the prompts, ``(L, H)`` float32."""
    assert adapter.gates is not None
    gates = adapter.gates.detach().cpu()
    return gates.tanh() if adapter.config.gate_activation == "tanh" else gates.clone()
