"""What the gates have learned: how strongly each head of each layer lets its prompts in, as numbers and heat-maps."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mm_adapter.adapter import Adapter
from mm_adapter.core.files import write_atomically
from mm_adapter.eval.probes.findings import Section


def draw_layers(path: Path, values: Tensor, first_layer: int, across: str, ticks: Sequence[str] = ()) -> None:
    """Write a PNG of ``values`` ``(L, N)`` by layer and ``across``, dark being 0.

    Args:
        first_layer: number of the first row.
        ticks: names of the N columns; numbers where there are none.

    Raises:
        UserError: the file cannot be written.
    """
    # Imported here: it takes a second to load, and most probes draw nothing.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    layers, width = values.shape
    figure = Figure(figsize=(2.6 + 0.28 * max(width, 8), 1.6 + 0.2 * layers), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    extent = (-0.5, width - 0.5, first_layer - 0.5, first_layer + layers - 0.5)
    # From below: the model's lowest layer is the first row.
    image = axes.imshow(values.float().numpy(), aspect="auto", origin="lower", vmin=0, extent=extent, cmap="viridis")
    axes.set(xlabel=across, ylabel="layer")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if ticks:
        axes.set_xticks(range(width), list(ticks))
    figure.colorbar(image)
    write_atomically(path, lambda temporary: figure.savefig(temporary, format="png", dpi=110))


OPEN = 0.1
PICTURE = "gates.png"


def gate_strengths(adapter: Adapter) -> Tensor | None:
    """Return what the attention to the prompts is multiplied by, ``(L, H)`` float32; None without gates.

    Where the pieces of a picture are prompts behind gates of their own, those follow: ``(L, 2 * H)``.

    ``tanh(gate)`` as in LLaMA-Adapter (arXiv 2303.16199), section 3.2; the gate itself where the adapter has it so;
    times the layer's scale where it has one.
    """
    if adapter.gates is None:
        return None
    own = [gates for gates in (adapter.gates, adapter.image_gates) if gates is not None]
    gates = torch.cat([gates.detach().float().cpu() for gates in own], dim=1)
    gates = gates.tanh() if adapter.config.gate_activation == "tanh" else gates
    return gates if adapter.scales is None else gates * adapter.scales.detach().float().cpu()[:, None]


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
