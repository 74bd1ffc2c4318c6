"""Everything that can be said of some systems on the same questions: figures, intervals, cells, comparisons."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mm_adapter.core.errors import UserError
from mm_adapter.core.files import write_json, write_text
from mm_adapter.data.question import Dataset
from mm_adapter.eval.calibration import Calibration, calibration
from mm_adapter.eval.cells import CellRow, cell_rows, cells, official_cells
from mm_adapter.eval.comparison import Agreement, Comparison, agreement, compare_systems, missed_by_all
from mm_adapter.eval.explanations import ExplanationScores, score_explanations
from mm_adapter.eval.official_report import Table, markdown_text, notes, to_csv, to_markdown, to_text
from mm_adapter.eval.plain_text import visible
from mm_adapter.eval.record import UNREADABLE
from mm_adapter.eval.system import Reading, System, distinct, name_of, read_system
from mm_adapter.eval.tables import (
    agreement_table,
    calibration_table,
    cell_table,
    comparison_table,
    explanation_note,
    explanation_table,
    official_interval_table,
)


@dataclass(frozen=True)
class Scores:
    """Everything that was found of some systems on the same questions.

    Attributes:
        systems: in the order given.
        official, by: name of the system -> rows of the official columns; -> dimension -> rows.
        calibrations: of the systems that give probabilities.
        comparisons, agreements: of every two systems.
        missed: pids that every system has wrong.
        explanations: name of the system -> what its explanations are worth; empty where that was not asked.
    """

    systems: tuple[System, ...]
    official: dict[str, list[CellRow]]
    by: dict[str, dict[str, list[CellRow]]]
    calibrations: dict[str, Calibration]
    comparisons: dict[tuple[str, str], dict[str, Comparison]]
    agreements: dict[tuple[str, str], Agreement]
    missed: tuple[str, ...]
    explanations: dict[str, ExplanationScores] = field(default_factory=dict)


def read_systems(
    paths: Sequence[Path], dataset: Dataset, split: str, reading: Reading, names: Sequence[str] | None = None
) -> list[System]:
    """Return the systems of some files, under names that differ.

    Raises:
        UserError: a file cannot be read or does not fit the split; there are not as many names as files, or one twice.
    """
    questions, skipped = dataset.split(split), dataset.skipped(split)
    elsewhere = {pid: other for other, pids in dataset.splits.items() if other != split for pid in pids}
    if names is not None and len(names) != len(paths):
        raise UserError(f"--name has {len(names)} names for {len(paths)} files of predictions. Give one for each.")
    if names is not None and len(set(names)) < len(names):
        raise UserError("--name gives a name twice. Tell the systems apart.")
    own = list(names) if names is not None else distinct([name_of(path) for path in paths])
    return [
        read_system(path, questions, skipped, reading, name, elsewhere) for path, name in zip(paths, own, strict=True)
    ]


def score(
    systems: Sequence[System],
    by: Sequence[str] = (),
    interval: str = "wilson",
    seed: int = 0,
    explanations: str | None = None,
) -> Scores:
    """Find everything that can be said of systems.

    Args:
        systems: at least one; several must have answered the same questions.
        by: dimensions or crossings of tables besides the official one.
        interval: ``wilson``, or ``skill``: bootstrap that draws whole skills.
        seed: of bootstraps.
        explanations: score these too, against the ``solution`` or ``lecture-solution`` of the questions.

    Raises:
        UserError: an unknown dimension, systems that answered different questions, or explanations that cannot be
            scored (``mm_adapter.eval.explanations``).
    """
    first = systems[0]
    clusters = {q.pid: q.skill or q.pid for q in first.questions} if interval == "skill" else None
    members = official_cells(first.questions)
    outcomes = {system.name: system.outcomes for system in systems}
    comparisons = compare_systems(outcomes, members, seed, clusters)
    official, by_dimension = {}, {}
    for system in systems:
        own = official_cells(system.questions)
        # Skipped questions may belong to no class, but count as wrong in the average, as officially.
        outside = [pid for pid in system.metrics.skipped if pid not in system.outcomes]
        own["Avg"] = own["Avg"] + outside
        right = {**system.outcomes, **dict.fromkeys(outside, False)}
        groups = None if clusters is None else {**clusters, **{pid: pid for pid in outside}}
        official[system.name] = cell_rows(right, own, groups, seed)
        by_dimension[system.name] = {
            name: cell_rows(system.outcomes, cells(system.questions, name), clusters, seed) for name in by
        }
    calibrations = {system.name: calibration(system.predictions, system.questions) for system in systems}
    answers = {question.pid: question.answer for question in first.questions}
    choices = {s.name: {pid: found.choice for pid, found in s.predictions.items()} for s in systems}
    agreements = {(a, b): agreement(choices[a], choices[b], answers) for a, b in comparisons}
    return Scores(
        tuple(systems),
        official,
        by_dimension,
        {name: found for name, found in calibrations.items() if found is not None},
        comparisons,
        agreements,
        tuple(missed_by_all([system.outcomes for system in systems])),
        {} if explanations is None else score_explanations(systems, explanations, interval, seed),
    )


def tables(scores: Scores) -> list[Table]:
    """Return the tables for people, in reading order."""
    found = []
    for system in scores.systems:
        found.append(official_interval_table(system, scores.official[system.name]))
        prefix = f"{system.name}, " if len(scores.systems) > 1 else ""
        found += [cell_table(f"{prefix}{by}", rows) for by, rows in scores.by[system.name].items()]
    if scores.comparisons:
        found += [comparison_table(scores.comparisons), agreement_table(scores.agreements)]
    if scores.calibrations:
        found.append(calibration_table(scores.calibrations))
    if scores.explanations:
        found.append(explanation_table(scores.explanations))
    return found


def remarks(scores: Scores) -> list[str]:
    """Return what a reader of the tables must know, a line each."""
    lines = []
    for system in scores.systems:
        prefix = f"{system.name}: " if len(scores.systems) > 1 else ""
        told = [explanation_note(scores.explanations[system.name])] if scores.explanations else []
        lines += [prefix + line for line in (notes(system.metrics), *system.notes, *told)]
    if len(scores.systems) > 1:
        count = len(scores.systems[0].questions)
        lines.append(f"{len(scores.missed)} of {count} questions are missed by all {len(scores.systems)} systems.")
    return [visible(line, 600) for line in lines]


def to_values(scores: Scores) -> dict[str, Any]:
    """Return everything as values that JSON has; one system's figures stand at the top."""
    found = {system.name: _system_values(system, scores) for system in scores.systems}
    if len(found) == 1:
        return found.popitem()[1]
    comparisons = [
        {"first": first, "second": second, "cell": cell, **asdict(one), "verdict": one.verdict}
        for (first, second), row in scores.comparisons.items()
        for cell, one in row.items()
    ]
    alike = [{"first": a, "second": b, **asdict(one)} for (a, b), one in scores.agreements.items()]
    return {
        "systems": found,
        "comparisons": comparisons,
        "agreements": alike,
        "missed_by_all": list(scores.missed),
    }


def _system_values(system: System, scores: Scores) -> dict[str, Any]:
    rules: dict[str, int] = {}
    for pid, found in system.predictions.items():
        if pid not in system.metrics.skipped:
            rule = found.rule or ("unread" if found.choice == UNREADABLE else "given")
            rules[rule] = rules.get(rule, 0) + 1
    calibrated = scores.calibrations.get(system.name)
    explained = scores.explanations.get(system.name)
    return {
        **system.metrics.to_json(),
        "intervals": {row.name: asdict(row) for row in scores.official[system.name]},
        "by": {by: [asdict(row) for row in rows] for by, rows in scores.by[system.name].items()},
        "calibration": None if calibrated is None else asdict(calibrated),
        "rules": rules,
        "source_reading": None if system.source is None else asdict(system.source),
        "unreadable": [{"pid": pid, "raw_text": system.predictions[pid].raw_text} for pid in system.unread],
        "absent": list(system.absent),
        "notes": list(system.notes),
        **({} if explained is None else {"explanations": asdict(explained)}),
    }


def write_scores(folder: Path, scores: Scores) -> None:
    """Write ``scores.json``, ``scores.csv`` and ``scores.md`` into ``folder``, each atomically.

    Raises:
        UserError: a file cannot be written.
    """
    shown = tables(scores)
    unread = _unread(scores)
    write_json(folder / "scores.json", to_values(scores))
    told: Table = [["notes"], *([remark] for remark in remarks(scores))]
    write_text(folder / "scores.csv", "\n".join(to_csv(table) for table in (*shown, told)))
    write_text(
        folder / "scores.md",
        "# Scores\n\nAccuracy in percent, with 95 % intervals.\n\n"
        + "\n".join(to_markdown(table) for table in (*shown, *unread))
        + "\n"
        + "\n\n".join(map(markdown_text, remarks(scores)))
        + "\n",
    )


def _unread(scores: Scores) -> list[Table]:
    rows = [
        [system.name, pid, system.predictions[pid].raw_text[:80]] for system in scores.systems for pid in system.unread
    ]
    return [[["answers that could not be read", "pid", "text"], *rows]] if rows else []


def to_screen(scores: Scores) -> str:
    """Return the tables and remarks for a terminal."""
    return "\n".join(to_text(table) for table in tables(scores)) + "\n" + "\n".join(remarks(scores))
