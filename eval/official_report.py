"""Metrics for people and for other programs: the field's table on the terminal, as Markdown, CSV and JSON."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from mm_adapter.core.files import write_json, write_text
from mm_adapter.eval.metrics import COLUMNS, NO_CLASS, ClassRow, Metrics
from mm_adapter.eval.plain_text import spreadsheet, visible

EMPTY = "-"
"""Stands where no question counts."""

_LONGEST = 300  # characters of a cell: a name of a megabyte must not push the figures off the screen

Table = list[list[str]]
"""Rows of cells, the header first; all rows have the same length and begin with a name."""


def official_table(rows: Mapping[str, Mapping[str, float | None]]) -> Table:
    """Return the official table: one row per run, accuracies in percent with two decimals.

    Columns that no question of any run is in are left out; the average stands always.

    Args:
        rows: name of the run -> its `Metrics.official`.
    """
    columns = official_columns(*rows.values())
    body = [[name, *(_percent(official.get(key)) for key in columns.values())] for name, official in rows.items()]
    return [["", *columns], *body]


def official_columns(*found: Mapping[str, float | None]) -> dict[str, str]:
    """Return the columns of the official table that have a figure in one of some `Metrics.official`, and the average.

    Datasets without subjects or grades would have dashes in the others.
    """
    used = {key for official in found for key, value in official.items() if value is not None} | {"acc_average"}
    return {column: key for column, key in COLUMNS.items() if key in used}


def screen(metrics: Metrics, name: str) -> str:
    """Return what a terminal shows of one run: the official table, notes, and topics where no subject is known."""
    text = to_text(official_table({name: metrics.official}))
    if metrics.has_subjects or not is_divided(metrics.by_topic):
        return f"{text}\n{notes(metrics)}"
    return f"{text}\n{to_text(class_table('topic', metrics.by_topic))}\n{notes(metrics)}"


def class_table(title: str, rows: Sequence[ClassRow]) -> Table:
    """Return one breakdown as a table with the columns ``title``, correct, questions and accuracy (percent)."""
    body = [[row.name, str(row.correct), str(row.total), _percent(row.accuracy)] for row in rows]
    return [[title, "correct", "questions", "accuracy"], *body]


def to_text(table: Table) -> str:
    """Return ``table`` aligned for a terminal: words to the left, figures to the right, no spaces at line ends."""
    table = [[visible(cell, _LONGEST) for cell in row] for row in table]
    columns = []
    for place, column in enumerate(zip(*table, strict=True)):
        width = max(map(len, column))
        words = place == 0 or any(cell[:1].isalpha() for cell in column[1:])
        columns.append([cell.ljust(width) if words else cell.rjust(width) for cell in column])
    lines = ["  ".join(row).rstrip() for row in zip(*columns, strict=True)]
    return "\n".join(lines) + "\n"


def to_markdown(table: Table) -> str:
    """Return ``table`` as a Markdown table, figures to the right."""
    header, *body = [[markdown_text(cell) for cell in row] for row in table]
    rule = ["---"] + ["---:"] * (len(header) - 1)
    return "".join(f"| {' | '.join(row)} |\n" for row in (header, rule, *body))


def markdown_text(text: str) -> str:
    """Return text of unknown origin as one line of Markdown.

    Markdown lets HTML through, so what looks like a tag is written out.
    """
    return (
        visible(text, _LONGEST)
        .replace("&", "&amp;")
        .replace("<", "&lt;")
        .replace("|", "\\|")
        .replace("[", "\\[")
        .replace("`", "\\`")
    )


def to_csv(table: Table) -> str:
    """Return ``table`` as CSV (RFC 4180 quoting, lines ended by a line feed)."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([spreadsheet(cell) for cell in row] for row in table)
    return text.getvalue()


def write_report(folder: Path, metrics: Metrics, name: str) -> None:
    """Write ``metrics.json``, ``metrics.csv`` and ``report.md`` into ``folder``, each atomically.

    Args:
        folder: made where it does not exist.
        metrics: what is reported.
        name: what the run is called in the tables.

    Raises:
        UserError: a file cannot be written.
    """
    write_json(folder / "metrics.json", metrics.to_json())
    write_text(folder / "metrics.csv", to_csv(_long_table(metrics)))
    write_text(folder / "report.md", _report(metrics, name))


def notes(metrics: Metrics) -> str:
    """Return what a reader of the figures must know: how many questions, and which of them count as wrong unread."""
    lines = [f"{metrics.counts['acc_average']} questions."]
    if metrics.unparseable:
        lines.append(f"{metrics.unparseable} answers could not be read; they count as wrong.")
    if metrics.skipped:
        lines.append(f"{len(metrics.skipped)} bad questions were skipped; they count as wrong.")
    return " ".join(lines)


def _report(metrics: Metrics, name: str) -> str:
    counts = ["questions", *(str(metrics.counts[key]) for key in official_columns(metrics.official).values())]
    by_subject = ", by subject (natural, social, language science), context (text, image, none) and grade"
    parts = [
        f"# {markdown_text(name)}\n",
        f"Accuracy in percent{by_subject if metrics.has_subjects else ''}.\n",
        to_markdown([*official_table({name: metrics.official}), counts]),
        notes(metrics) + "\n",
    ]
    for title, rows in _breakdowns(metrics).items():
        if is_divided(rows):
            parts += [f"## By {title}\n", to_markdown(class_table(title, rows))]
    if metrics.skipped:
        parts += ["## Skipped questions\n", to_markdown([["pid", "reason"], *map(list, metrics.skipped.items())])]
    return "\n".join(parts)


def _long_table(metrics: Metrics) -> Table:
    """Return every figure with its count in one table that a spreadsheet can filter."""
    body = [["official", key, str(metrics.counts[key]), _percent(value)] for key, value in metrics.official.items()]
    for title, rows in _breakdowns(metrics).items():
        body += [[title, row.name, str(row.total), _percent(row.accuracy)] for row in rows]
    return [["table", "name", "questions", "accuracy"], *body]


def _breakdowns(metrics: Metrics) -> dict[str, list[ClassRow]]:
    return {"topic": metrics.by_topic, "category": metrics.by_category, "skill": metrics.by_skill}


def is_divided(rows: Sequence[ClassRow]) -> bool:
    """Tell whether a breakdown says more than the average: some question has a class in it."""
    return any(row.name != NO_CLASS for row in rows)


def _percent(value: float | None) -> str:
    return EMPTY if value is None else f"{value:.2f}"
