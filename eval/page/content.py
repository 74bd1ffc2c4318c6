"""From systems and their scores to the parts of a page."""

from collections.abc import Sequence

from mm_adapter.eval.metrics import NO_CLASS
from mm_adapter.eval.official_report import Table
from mm_adapter.eval.page.page import Part
from mm_adapter.eval.page.plots import Plot, plot_calibration, plot_classes
from mm_adapter.eval.plain_text import visible
from mm_adapter.eval.scores import Scores
from mm_adapter.eval.tables import (
    agreement_table,
    calibration_table,
    comparison_table,
    explanation_table,
    interval_text,
)

BY = (
    *("subject*context", "grade-band", "options", "context-length", "lecture", "grade", "topic", "category", "skill"),
)
"""Tables of cells that a report has."""

_FOLDED = ("grade", "topic", "category", "skill")


def score_parts(scores: Scores) -> list[Part]:
    """Return the tables of a page: classes, comparisons, calibration, explanations, cells, source tools, unread."""
    parts = [
        Part(
            "official",
            "Accuracy",
            "Percent right, by subject (natural, social, language science), context (text, image, none) and grade, "
            "with 95 % intervals.",
            _official(scores),
        )
    ]
    if scores.comparisons:
        compared = "The second system against the first on the same questions: exact McNemar test, paired bootstrap."
        parts.append(Part("comparison", "Comparison", compared, comparison_table(scores.comparisons)))
        alike = "How alike the systems answer; kappa 0 is as alike as chance makes systems of these accuracies."
        parts.append(Part("agreement", "Agreement", alike, agreement_table(scores.agreements)))
    if scores.calibrations:
        text = "How far probabilities are to be believed; 0 is best in every column."
        parts.append(Part("calibration", "Calibration", text, calibration_table(scores.calibrations)))
    if scores.explanations:
        text = "How near the systems' explanations are to the dataset's own, in percent; one that is missing counts 0."
        parts.append(Part("explanations", "Explanations", text, explanation_table(scores.explanations)))
    for by in BY:
        if not _is_divided(scores, by):
            continue
        title = f"By {by.replace('*', ' and ').replace('-', ' ')}"
        name = f"by-{by.replace('*', '-')}"
        parts.append(Part(name, title, "Percent right, with 95 % intervals.", _cells(scores, by), by in _FOLDED))
    read_elsewhere = _source_tools(scores)
    if len(read_elsewhere) > 1:
        text = "What the project that wrote a file reads in the same texts, by its own rules, beside what is read here."
        parts.append(Part("source-tools", "Read by the source tool", text, read_elsewhere))
    unread = [
        [pid, system.name, visible(system.predictions[pid].raw_text, 200)]
        for system in scores.systems
        for pid in system.unread
    ]
    if unread:
        text = "Answers that no rule could read. They count as wrong unless a note above says otherwise."
        parts.append(Part("unread", "Unread answers", text, [["question", "system", "answer"], *unread], folded=True))
    return parts


def score_plots(scores: Scores) -> list[Plot]:
    """Return the plots of a page: classes, and calibration where there are probabilities."""
    plots = [plot_classes(scores.official)]
    return plots + ([plot_calibration(scores.calibrations)] if scores.calibrations else [])


def _official(scores: Scores) -> Table:
    columns = [row.name for row in scores.official[scores.systems[0].name]]
    table = [["system", *(name for column in columns for name in (column, "95 %"))]]
    for system in scores.systems:
        rows = {row.name: row for row in scores.official[system.name]}
        cells = [(f"{rows[c].accuracy:.2f}", interval_text(rows[c].interval)) for c in columns]
        table.append([system.name, *(text for pair in cells for text in pair)])
    return table


def _source_tools(scores: Scores) -> Table:
    """Return both figures of every system whose texts its source tool reads otherwise."""
    table = [["system", "tool", "questions", "right by its rules", "%", "right by ours", "%", "read differently"]]
    for system in scores.systems:
        found = system.source
        if found is not None and found.differing:
            figures = (found.correct, f"{found.accuracy:.2f}", found.own_correct, f"{found.own_accuracy:.2f}")
            table.append([system.name, found.tool, str(found.total), *map(str, figures), str(len(found.differing))])
    return table


def _is_divided(scores: Scores, by: str) -> bool:
    """Tell whether the dataset knows classes of this kind: a table of questions without one says nothing."""
    rows = scores.by[scores.systems[0].name][by]
    return any(not row.name.startswith(NO_CLASS) for row in rows)


def _cells(scores: Scores, by: str) -> Table:
    names: Sequence[str] = [system.name for system in scores.systems]
    table = [[by.replace("*", " x "), "questions", *(text for name in names for text in (name, "95 %"))]]
    for place, row in enumerate(scores.by[names[0]][by]):
        found = [scores.by[name][by][place] for name in names]
        cells = [(f"{one.accuracy:.2f}", interval_text(one.interval)) for one in found]
        table.append([row.name, str(row.total), *(text for pair in cells for text in pair)])
    return table
