"""What ``mm-adapter probe`` left, as tables and plots of a page."""

import json
import math
from pathlib import Path
from typing import Any

from mm_adapter.core.errors import UserError
from mm_adapter.eval.intervals import Interval
from mm_adapter.eval.official_report import EMPTY
from mm_adapter.eval.page.page import Part
from mm_adapter.eval.page.plots import COLORS, INK, Plot, blank
from mm_adapter.eval.plain_text import visible
from mm_adapter.eval.tables import interval_text, p_text

PROBES_FILE = "probe.json"


def probe_parts(folder: Path, place: int) -> tuple[list[Part], list[Plot]]:
    """Return the table of a folder of probes, and plots of its differences and gates where it has them.

    Args:
        folder: that ``mm-adapter probe`` wrote.
        place: of the folder among several, for names that differ.

    Raises:
        UserError: the folder has no such file, or it is damaged.
    """
    path = folder / PROBES_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return _parts(found, place)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}). Name a folder of `mm-adapter probe`.") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(f"{path}: this is not what `mm-adapter probe` writes ({error!r}). Probe again.") from None


def _parts(found: dict[str, Any], place: int) -> tuple[list[Part], list[Plot]]:
    name = str(found["name"])
    header = ["probe", "accuracy", "IMG", "asked again", "points", "95 % interval", "p, Holm", "the probed run is"]
    image = found["unprobed"]["image_accuracy"]
    rows = [["as it is", f"{found['unprobed']['accuracy']:.2f}", _figure(image), *[EMPTY] * 5]]
    drawn = []
    for probe, one in found["probes"].items():
        interval = None if one["interval"] is None else Interval(one["interval"]["low"], one["interval"]["high"])
        figures = [f"{one['accuracy']:.2f}", _figure(one["image_accuracy"]), str(one["questions"])]
        tested = [f"{one['difference']:+.2f}", interval_text(interval), p_text(one["adjusted"]), str(one["verdict"])]
        rows.append([str(probe), *figures, *tested])
        if interval is not None:
            drawn.append((probe, float(one["difference"]), interval.low, interval.high))
    text = f"{found['questions']} questions of {found['split']} asked again with something changed. {_gain(found)}"
    parts = [Part(f"probes-{place}", f"Probes of {name}", text, [header, *rows])]
    plots = [_differences(name, place, drawn)] if drawn else []
    gates = found.get("gates")
    if gates:
        plots.append(_gates(name, place, gates["strengths"], gates["first_layer"]))
    return parts, plots


def _gain(found: dict[str, Any]) -> str:
    gain = found["visual_gain"]
    if gain is None:
        return ""
    headline = gain["gains"][gain["headline"]]
    interval = headline["interval"]
    ends = "" if interval is None else f" (95 % interval {interval['low']:.1f} to {interval['high']:.1f})"
    whole = f"{gain['accuracy']:.1f} % on questions with pictures"
    return f"Visual gain: {headline['difference']:.1f} points{ends} of {whole}."


def _figure(value: float | None) -> str:
    return EMPTY if value is None else f"{value:.2f}"


def _differences(name: str, place: int, rows: list[tuple[str, float, float, float]]) -> Plot:
    figure, (axes,) = blank(7.5, 1.2 + 0.35 * len(rows))
    at = list(range(len(rows), 0, -1))
    axes.axvline(0, color=INK, alpha=0.5, linewidth=1)
    axes.hlines(at, [low for _, _, low, _ in rows], [high for _, _, _, high in rows], color=COLORS[0], linewidth=2)
    axes.plot([middle for _, middle, _, _ in rows], at, "o", color=COLORS[0])
    axes.set_yticks(at, [visible(probe, 60) for probe, *_ in rows], parse_math=False)
    axes.set(xlabel="points of accuracy, against the run as it is")
    text = "What each change costs on the questions that it changes; lines are 95 % intervals."
    return Plot(f"probes-{place}", f"Probes of {name}", text, figure)


def _gates(name: str, place: int, strengths: list[list[float]], first_layer: int) -> Plot:
    most = max((abs(value) for row in strengths for value in row if math.isfinite(value)), default=0.0) or 1.0
    figure, (axes,) = blank(7.5, 1.6 + 0.18 * len(strengths))
    image = axes.imshow(strengths, aspect="auto", cmap="RdBu", vmin=-most, vmax=most, interpolation="nearest")
    axes.grid(visible=False)
    marks = range(0, len(strengths), max(1, len(strengths) // 10))
    axes.set_yticks(list(marks), [str(first_layer + mark) for mark in marks])
    axes.set(xlabel="head", ylabel="layer")
    figure.colorbar(image, ax=axes).ax.tick_params(colors=INK)
    text = "What multiplies the attention to the prompts in every layer and head after training; 0 before."
    return Plot(f"gates-{place}", f"Gates of {name}", text, figure)
