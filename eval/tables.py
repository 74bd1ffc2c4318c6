"""Tables of what a system is worth and how systems differ: figures with their intervals, cells, comparisons."""

from collections.abc import Mapping, Sequence

from mm_adapter.eval.calibration import Calibration
from mm_adapter.eval.cells import CellRow
from mm_adapter.eval.comparison import Agreement, Comparison
from mm_adapter.eval.explanations import MEASURES, ExplanationScores
from mm_adapter.eval.intervals import Interval
from mm_adapter.eval.official_report import EMPTY, Table, official_columns
from mm_adapter.eval.system import System


def interval_text(interval: Interval | None) -> str:
    """Return an interval as ``74.0 to 76.9``."""
    return EMPTY if interval is None else f"{interval.low:.1f} to {interval.high:.1f}"


def official_interval_table(system: System, rows: Sequence[CellRow]) -> Table:
    """Return the official columns of one system that have questions: accuracy, ends of the 95 % interval, questions."""
    by_name = {row.name: row for row in rows}
    columns = official_columns(system.metrics.official)
    lines: Table = [["", *columns], [system.name], ["95 % from"], ["95 % to"], ["questions"]]
    for column, key in columns.items():
        value, row = system.metrics.official[key], by_name.get(column)
        interval = row.interval if row else None
        lines[1].append(EMPTY if value is None else f"{value:.2f}")
        lines[2].append(EMPTY if interval is None else f"{interval.low:.2f}")
        lines[3].append(EMPTY if interval is None else f"{interval.high:.2f}")
        lines[4].append(str(system.metrics.counts[key]))
    return lines


def cell_table(title: str, rows: Sequence[CellRow]) -> Table:
    """Return cells with correct, questions, accuracy and 95 % interval, in percent."""
    body = [
        [row.name, str(row.correct), str(row.total), f"{row.accuracy:.2f}", interval_text(row.interval)] for row in rows
    ]
    return [[title, "correct", "questions", "accuracy", "95 % interval"], *body]


def comparison_table(comparisons: Mapping[tuple[str, str], Mapping[str, Comparison]]) -> Table:
    """Return every comparison of two systems in a cell: the second's difference from the first."""
    header = ["second - first", "cell", "questions", "only first", "only second", "points", "95 % interval"]
    table = [[*header, "p", "p, Holm", "second is"]]
    for (first, second), row in comparisons.items():
        for cell, found in row.items():
            figures = [str(found.questions), str(found.only_first), str(found.only_second), f"{found.difference:+.2f}"]
            tests = [interval_text(found.interval), p_text(found.p_value), p_text(found.adjusted), found.verdict]
            table.append([f"{second} - {first}", cell, *figures, *tests])
    return table


def p_text(value: float) -> str:
    """Return a p-value with three decimals, ``< 0.001`` below that."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def agreement_table(agreements: Mapping[tuple[str, str], Agreement]) -> Table:
    """Return how alike the choices of every two systems are."""
    rows = [
        [
            f"{first}, {second}",
            f"{found.same:.1f} %",
            EMPTY if found.kappa is None else f"{found.kappa:.2f}",
            EMPTY if found.same_wrong is None else f"{found.same_wrong:.1f} %",
        ]
        for (first, second), found in agreements.items()
    ]
    return [["agreement", "same choice", "kappa of being right", "same wrong choice"], *rows]


def calibration_table(found: Mapping[str, Calibration]) -> Table:
    """Return calibration figures of the systems that give probabilities."""
    rows = [
        [name, str(one.questions), f"{one.expected_error:.4f}", f"{one.brier:.4f}", f"{one.risk_area:.4f}"]
        for name, one in found.items()
    ]
    return [["calibration", "questions", "expected error", "Brier score", "risk-coverage area"], *rows]


def explanation_table(found: Mapping[str, ExplanationScores]) -> Table:
    """Return what the explanations of some systems are worth: percent with 95 % intervals, side by side."""
    table = [["explanations", "questions", "without", *(text for name in MEASURES for text in (name, "95 %"))]]
    for system, scores in found.items():
        row = [system, str(scores.questions), str(scores.missing)]
        for name in MEASURES:
            one = scores.measures.get(name)
            row += [EMPTY, EMPTY] if one is None else [f"{one.mean:.2f}", interval_text(one.interval)]
        table.append(row)
    return table


def explanation_note(scores: ExplanationScores) -> str:
    """Return what a reader of a system's explanation figures must know."""
    held = f"Explanations are held against the {scores.reference.replace('-', ' and ')} of {scores.questions} questions"
    if scores.missing == scores.questions:
        return f"{held}; none has one."
    return f"{held}; {scores.missing} have none and count 0."
