"""The leaderboard as tables and a plot."""

from collections.abc import Sequence
from pathlib import Path

from mm_adapter.core.errors import UserError, suggestion
from mm_adapter.core.files import write_atomically
from mm_adapter.eval.leaderboard.ranking import Ranked
from mm_adapter.eval.leaderboard.row import parameters_text
from mm_adapter.eval.leaderboard.submission import Run
from mm_adapter.eval.metrics import COLUMNS
from mm_adapter.eval.official_report import EMPTY, Table
from mm_adapter.eval.tables import interval_text

SORTS = (*COLUMNS, "tuned", "date", "model")


def selected(
    rows: Sequence[Ranked], sort: str = "Avg", words: Sequence[str] = (), learning: str | None = None
) -> list[Ranked]:
    """Return the rows that fit, in order: the highest accuracy, fewest parameters or newest first, names from A.

    Args:
        rows: ranked among all; selecting changes no rank.
        sort: a column of the official table, ``tuned``, ``date`` or ``model``; rows without the value come last.
        words: all must occur in model, method or source, whatever the case.
        learning: Fine-tune, Few-shot or Zero-shot, whatever the case.

    Raises:
        UserError: an unknown column.
    """
    if sort not in SORTS:
        raise UserError(f"--sort {sort!r} is not known{suggestion(sort, SORTS)}; there are {', '.join(SORTS)}.")
    found = [
        one
        for one in rows
        if all(word.casefold() in f"{one.row.model} {one.row.method} {one.row.source}".casefold() for word in words)
        and (learning is None or one.row.learning.casefold() == learning.casefold())
    ]
    if sort == "model":
        return sorted(found, key=lambda one: one.row.model.casefold())
    if sort == "date":
        return sorted(found, key=lambda one: one.row.date, reverse=True)
    if sort == "tuned":
        return sorted(found, key=lambda one: (one.row.tuned is None, one.row.tuned or 0))
    return sorted(found, key=lambda one: -1.0 if (value := one.row.accuracies[sort]) is None else value, reverse=True)


def leaderboard_table(rows: Sequence[Ranked], classes: bool = False) -> Table:
    """Return the rows as a table; with ``classes``, all nine columns. A column of each run says what the test says."""
    runs = list(dict.fromkeys(run for one in rows for run in one.verdicts))
    columns = [column for column in COLUMNS if column != "Avg"] if classes else []
    header = ["rank", "model", "Avg", "95 % interval", *columns, "tuned", "method", "learning", "date", "source"]
    table = [[*header, *(f"{run} is" for run in runs)]]
    for one in rows:
        row = one.row
        figures = [_figure(row.accuracies[column]) for column in columns]
        table.append(
            [
                EMPTY if one.rank is None else str(one.rank),
                row.model + _kind(one),
                _figure(row.average),
                interval_text(one.interval),
                *figures,
                parameters_text(row.tuned),
                row.method or EMPTY,
                row.learning or EMPTY,
                row.date,
                row.source or EMPTY,
                *(one.verdicts.get(run, EMPTY) for run in runs),
            ]
        )
    return table


def apart_table(runs: Sequence[Run]) -> Table:
    """Return runs that are not ranked, each with the reason."""
    header = ["not ranked", *COLUMNS, "questions", "reason"]
    return [
        header,
        *(
            [
                run.system.name,
                *(_figure(run.system.metrics.official[key]) for key in COLUMNS.values()),
                str(len(run.system.questions)),
                run.apart,
            ]
            for run in runs
        ),
    ]


def plot_tuned(rows: Sequence[Ranked], path: Path) -> int:
    """Draw accuracy against tuned parameters into a PNG, runs with their intervals; return how many rows have both.

    Raises:
        UserError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    known = [one for one in rows if one.row.tuned and one.row.average is not None]
    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, color, part in (
        ("published", "#777777", [one for one in known if one.row.outcomes is None]),
        ("runs", "#c1440e", [one for one in known if one.row.outcomes is not None]),
    ):
        averages = [one.row.average or 0.0 for one in part]
        axes.scatter([one.row.tuned or 0 for one in part], averages, color=color, label=name, zorder=3)
        for one, average in zip(part, averages, strict=True):
            if one.interval is not None:
                low, high = one.interval.low, one.interval.high
                axes.vlines(one.row.tuned or 0, low, high, color=color)
            # parse_math: a name with dollar signs is a name.
            axes.annotate(
                one.row.model[:40], (one.row.tuned or 0, average), (4, 3), textcoords="offset points", fontsize=7,
                parse_math=False,
            )  # fmt: skip
    axes.set(xlabel="tuned parameters", ylabel="accuracy on the official test split, %")
    if known:  # a scale of powers needs a point; room for the names of the largest
        axes.set(xscale="log")
        axes.set(xlim=(None, 6 * max(one.row.tuned or 1 for one in known)))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    write_atomically(path, lambda temporary: figure.savefig(temporary, format="png", dpi=120))
    return len(known)


def _kind(one: Ranked) -> str:
    if one.row.outcomes is None:
        return ""
    return " (run)" if one.row.recorded else " (run, answers not verified)"


def _figure(value: float | None) -> str:
    return EMPTY if value is None else f"{value:.2f}"
