"""Heat-maps of figures by layer."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from mm_adapter.files import write_atomically


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
