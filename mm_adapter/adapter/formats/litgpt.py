"""Adapters of litgpt (``adapter``, its first version), in and out.

litgpt adds ``gate * attention to the prompts`` before the output projection, one gate per head and no tanh, in every
layer from ``adapter_start_layer`` up. Its query, key and value projections are one matrix. Through 0.5.4 the rows of
each query group stood side by side there; since 0.5.5 all queries come first, then all keys, then all values, and the
prompts' keys and values are still cut out as before: other heads, another function (``litgpt_heads``). The file is the
same, so whoever reads or writes one has to say which it is for.
"""

import re
from collections.abc import Iterable
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

WEIGHTS_FILE = "lit_model.pth.adapter"
QKV = ("concatenated", "interleaved")
START_LAYER = 2  # adapter_start_layer of litgpt's configuration
_NAME = "litgpt's format"
_TENSOR = re.compile(r"transformer\.h\.(\d{1,6})\.attn\.(?:adapter_wte\.weight|gating_factor)")


def read_litgpt(path: Path, llama: LlamaConfig, qkv: str = "concatenated") -> Adapter:
    """Read an adapter that litgpt trained.

    Args:
        path: ``lit_model.pth.adapter`` or its folder: per layer ``adapter_wte.weight`` ``(K, D)`` and
            ``gating_factor`` ``(1, 1, H, 1)``; ``(1, H, 1, 1)`` or a single value in early versions.
        llama: shape of the base model.
        qkv: ``concatenated`` where litgpt 0.5.5 or later trained it, ``interleaved`` for earlier versions.

    Raises:
        UserError: the file is missing or damaged, or a tensor is missing, surplus or misshapen.
    """
    _check_qkv(qkv)
    if path.is_dir():
        names = (WEIGHTS_FILE, f"{WEIGHTS_FILE}_v2")
        path = next((path / name for name in names if (path / name).is_file()), path / WEIGHTS_FILE)
    tensors = read_tensors(path)
    surplus = of_second_version(tensors)
    if surplus is not None:
        raise UserError(
            f"{path}: an adapter v2 of litgpt, not supported: {surplus} has no place in this format, nor has any other "
            "scale or bias of a matrix. Train version 1 there (litgpt finetune_adapter)."
        )
    found = {int(match[1]) for name in tensors if (match := _TENSOR.fullmatch(name))}
    if not found:
        raise UserError(f"{path}: no transformer.h.N.attn.adapter_wte.weight is there; not an adapter of litgpt.")
    if max(found) >= llama.num_layers:
        raise UserError(f"{path}: adapts layer {max(found)}, the model has {llama.num_layers} layers; see --llama.")
    adapted = range(min(found), llama.num_layers)
    first = tensors.get(_prompts_name(adapted[0]))
    length = 0 if first is None or first.ndim != 2 else first.shape[0]
    prompts, gates = [_prompts_name(layer) for layer in adapted], [_gate_name(layer) for layer in adapted]
    heads = llama.num_heads
    wanted: dict[str, list[tuple[int, ...]]] = {name: [(max(1, length), llama.hidden_size)] for name in prompts}
    wanted |= {name: [(1, 1, heads, 1), (1, heads, 1, 1), (1,)] for name in gates}
    check_tensors(path, tensors, wanted, [name for name in tensors if name not in wanted])
    config = AdapterConfig(
        layers=len(adapted), prompt_length=length, gate_activation="none", prompt_heads=_heads(qkv, llama)
    )
    return build_adapter(path, config, llama, [tensors[name] for name in prompts], [tensors[name] for name in gates])


def of_second_version(names: Iterable[str]) -> str | None:
    """Return the first of a file's tensors that litgpt's ``adapter_v2`` alone has; None where there is none."""
    return next((name for name in names if name.endswith((".adapter_bias", ".adapter_scale"))), None)


def write_litgpt(path: Path, adapter: Adapter, llama: LlamaConfig, qkv: str = "concatenated") -> None:
    """Write an adapter that litgpt reads; adapted layers that it has more, from its start layer, get closed gates.

    Args:
        path: the file, ``lit_model.pth.adapter`` by litgpt's custom.
        qkv: ``concatenated`` for litgpt 0.5.5 and later, ``interleaved`` for earlier versions.

    Raises:
        UserError: the format, or that version of litgpt, cannot hold the adapter, or ``path`` cannot be written.
    """
    _check_qkv(qkv)
    refuse_inexpressible(adapter, _NAME)
    if adapter.first_layer < START_LAYER:
        raise UserError(
            f"{_NAME} cannot hold this adapter: it starts at layer {adapter.first_layer}, litgpt's at {START_LAYER}."
        )
    if _heads(qkv, llama) != "own" and adapter.config.prompt_heads == "own":
        raise UserError(
            f"{_NAME} since 0.5.5 cannot hold this adapter: litgpt takes prompt keys and values from other heads than "
            "the method there. Write it for earlier versions with --qkv interleaved."
        )
    if _heads(qkv, llama) == "own":
        refuse_foreign_heads(adapter, f"{_NAME} before 0.5.5")
    strengths = gate_strengths(adapter)
    tensors: dict[str, Tensor] = {}
    for layer in range(START_LAYER, llama.num_layers):
        index = layer - adapter.first_layer
        closed = torch.zeros_like(adapter.prompts[0]), torch.zeros(llama.num_heads)
        prompts, gate = (adapter.prompts[index], strengths[index]) if index >= 0 else closed
        tensors[_prompts_name(layer)] = prompts.detach().cpu().clone()
        tensors[_gate_name(layer)] = gate.clone().view(1, 1, -1, 1)
    write_atomically(path, lambda temporary: torch.save({"model": tensors}, temporary))


def _prompts_name(layer: int) -> str:
    return f"transformer.h.{layer}.attn.adapter_wte.weight"


def _gate_name(layer: int) -> str:
    return f"transformer.h.{layer}.attn.gating_factor"


def _check_qkv(qkv: str) -> None:
    if qkv not in QKV:
        raise UserError(f"qkv {qkv!r} is not known; {' and '.join(QKV)} are.")


def _heads(qkv: str, llama: LlamaConfig) -> str:
    # With a single key head both ways of cutting give the same.
    return "litgpt-0.5.5" if qkv == "concatenated" and llama.num_kv_heads > 1 else "own"
