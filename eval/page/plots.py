"""Plots of a report, drawn by matplotlib: as SVG in the ink of the page, and as PNG."""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mm_adapter.core.files import write_atomically
from mm_adapter.eval.calibration import Calibration
from mm_adapter.eval.cells import CellRow
from mm_adapter.eval.plain_text import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#2f6fb3", "#c1602b", "#3c8f5a", "#8a5fb0", "#9a7d22", "#4f8f9a")
INK = "#0a0b0c"
"""Of lines and words; no plot has this colour otherwise, and a page puts its own in its place."""


@dataclass(frozen=True)
class Plot:
    """A plot with the words for who cannot see it.

    Attributes:
        name: of its files.
        title, text: what it shows, and how to read it.
        figure: drawn.
    """

    name: str
    title: str
    text: str
    figure: "Figure"

    def svg(self) -> str:
        """Return the plot as SVG to stand in a page; lines and words take the colour of the text around it."""
        import matplotlib

        buffer = io.StringIO()
        # Words stay words, and names of parts differ between plots, for a page holds many.
        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": self.name}):
            self.figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        text = buffer.getvalue()
        text = text[text.index("<svg") :].replace(INK, "currentColor")
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        # Names of groups repeat from plot to plot; clip paths have names of their own through the salt.
        text = re.sub(r'<g id="[^"]*">', "<g>", text)
        return re.sub(r' (width|height)="[0-9.]+pt"', "", text, count=2)

    def write_png(self, path: Path) -> None:
        """Write the plot as PNG, atomically.

        Raises:
            UserError: the file cannot be written.
        """
        write_atomically(path, lambda temporary: self.figure.savefig(temporary, format="png", dpi=120))


def blank(width: float = 7.5, height: float = 3.8, columns: int = 1) -> "tuple[Figure, list[Axes]]":
    """Return an empty figure of so many inches, and its axes side by side."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(1, columns, squeeze=False)[0])
    for one in axes:
        one.grid(alpha=0.25, color=INK)
        one.set_axisbelow(True)
        one.set_facecolor("none")
        one.tick_params(colors=INK)
        for spine in one.spines.values():
            spine.set_color(INK)
            spine.set_alpha(0.4)
        for label in (one.xaxis.label, one.yaxis.label, one.title):
            label.set_color(INK)
    return figure, axes


def _label(name: str) -> str:
    # A name that begins with an underscore would be left out of the legend.
    return "\u200a" + visible(name, 60) if name.startswith("_") else visible(name, 60)


def name_lines(axes: "Axes") -> None:
    """Add a legend in the page's ink."""
    legend = axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    for text in legend.get_texts():
        text.set_parse_math(False)


def plot_classes(official: Mapping[str, Sequence[CellRow]]) -> Plot:
    """Draw the nine official classes of every system with their 95 % intervals as a forest plot."""
    columns = [row.name for row in next(iter(official.values()))]
    figure, (axes,) = blank(9.5, 1 + 0.17 * len(columns) * (1 + len(official)))
    for place, (name, rows) in enumerate(official.items()):
        shift = (place - (len(official) - 1) / 2) * 0.7 / max(len(official), 1)
        at = [columns.index(row.name) + shift for row in rows]
        middle = [row.accuracy for row in rows]
        ends = [(row.interval.low, row.interval.high) if row.interval else (row.accuracy,) * 2 for row in rows]
        color = COLORS[place % len(COLORS)]
        axes.hlines(at, [low for low, _ in ends], [high for _, high in ends], color=color, linewidth=2)
        axes.plot(middle, at, "o", color=color, markersize=5, label=_label(name))
    axes.set_yticks(range(len(columns)), columns)
    axes.invert_yaxis()  # the first class, and the first system of each, stand at the top
    axes.set(xlabel="accuracy, %")
    name_lines(axes)
    text = "Accuracy by subject, context and grade; lines are 95 % intervals. The tables below have the figures."
    return Plot("classes", "Accuracy by class", text, figure)


def plot_calibration(found: Mapping[str, Calibration]) -> Plot:
    """Draw reliability diagrams and risk-coverage curves."""
    figure, (reliability, risk) = blank(9.5, 4, 2)
    reliability.plot([0, 1], [0, 1], color=INK, alpha=0.4, linewidth=1)
    for place, (name, one) in enumerate(found.items()):
        color = COLORS[place % len(COLORS)]
        xs, ys = [part.confidence for part in one.bins], [part.accuracy for part in one.bins]
        reliability.plot(xs, ys, "o-", color=color, markersize=4, label=_label(name))
        step = max(1, len(one.coverage) // 400)
        risk.plot(one.coverage[::step], [100 * value for value in one.risk[::step]], color=color, label=_label(name))
    reliability.set(xlabel="confidence", ylabel="accuracy", title="reliability", xlim=(0, 1), ylim=(0, 1))
    risk.set(xlabel="share of questions answered, surest first", ylabel="wrong, %", title="risk and coverage")
    name_lines(reliability)
    name_lines(risk)
    text = (
        "Left: how often answers of some confidence are right; on the diagonal, confidence is to be believed. Right: "
        "how many answers are wrong when only the surest are given."
    )
    return Plot("calibration", "Calibration", text, figure)


def plot_losses(events: Mapping[str, Sequence[Mapping[str, float]]]) -> Plot:
    """Draw the losses of training runs by step, and validation accuracy where it was looked at."""
    figure, (left, right) = blank(9.5, 4, 2)
    for place, (name, run) in enumerate(events.items()):
        color = COLORS[place % len(COLORS)]
        for key, style, axes in (("loss", "-", left), ("val_loss", "o--", left), ("val_accuracy", "o-", right)):
            points = [(event["step"], event[key]) for event in run if key in event]
            if points:
                label = f"{_label(name)}, {'validation' if key != 'loss' else 'training'}"
                axes.plot(*zip(*points, strict=True), style, color=color, markersize=4, linewidth=1.2, label=label)
    left.set(xlabel="step", ylabel="loss")
    right.set(xlabel="step", ylabel="validation accuracy, %")
    name_lines(left)
    if right.lines:
        name_lines(right)
    return Plot("loss", "Training", "Loss and validation accuracy by step.", figure)
