"""What the gates have learned: how strongly each head of each layer lets its prompts in."""

import torch
from torch import Tensor

from eval.probes.report import Section
from mm_adapter.adapter.adapter import Adapter

OPEN = 0.1
PICTURE = "gates.png"


def gate_strengths(adapter: Adapter) -> Tensor | None:
    """Return what the attention to the prompts is multiplied by, ``(L, H)`` float32; None without gates.

    ``tanh(gate)`` as in LLaMA-Adapter (arXiv 2303.16199), section 3.2; the gate itself where the adapter has it so.
    """
    if adapter.gates is None:
        return None
    gates = adapter.gates.detach().float().cpu()
    return gates.tanh() if adapter.config.gate_activation == "tanh" else gates


def gates_section(strengths: Tensor, first_layer: int) -> Section:
    """Return the strengths ``(L, H)`` of adapted layers, the lowest being layer ``first_layer`` of the model."""
    sizes = strengths.abs()
    rows = [["layer", "mean", "largest", f"share over {OPEN}"]]
    for layer, own in enumerate(sizes, start=first_layer):
        rows.append([str(layer), f"{own.mean():.4f}", f"{own.max():.4f}", f"{(own > OPEN).float().mean():.2f}"])
    rows.append(["all", f"{sizes.mean():.4f}", f"{sizes.max():.4f}", f"{(sizes > OPEN).float().mean():.2f}"])
    return Section(
        title="Gates",
        text="Size of what multiplies a head's attention to the prompts, tanh of the gate; 0 before training. Layers "
        "are counted from 0 at the bottom of the model.",
        table=rows,
        picture=PICTURE,
        figures={
            "first_layer": first_layer,
            "strengths": strengths.tolist(),
            "mean": float(sizes.mean()),
            "largest": float(sizes.max()),
            f"share_over_{OPEN}": float((sizes > OPEN).to(torch.float32).mean()),
        },
    )
