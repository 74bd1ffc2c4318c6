"""Published results and the user's runs in one table; verified runs are kept in a file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mm_adapter.core.errors import UserError
from mm_adapter.core.files import write_json, write_text
from mm_adapter.data.readers import read_dataset
from mm_adapter.eval.leaderboard.board import Entry, add_entry, make_entry, read_board
from mm_adapter.eval.leaderboard.published import published_rows
from mm_adapter.eval.leaderboard.ranked_tables import apart_table, leaderboard_table, plot_tuned
from mm_adapter.eval.leaderboard.ranking import Ranked, ranked
from mm_adapter.eval.leaderboard.submission import Run, read_run
from mm_adapter.eval.official_report import markdown_text, to_csv, to_markdown
from mm_adapter.eval.system import source_notes


@dataclass(frozen=True)
class Leaderboard:
    """Ranked rows, the runs that must stand apart from them, and what a reader must know of the runs' figures."""

    rows: list[Ranked]
    apart: list[Run]
    notes: tuple[str, ...] = ()


def add_run(path: Path, data: str, board: Path, name: str | None, **facts: Any) -> tuple[Entry, tuple[str, ...]]:
    """Verify a run and append it to a board.

    Args:
        path: folder of ``mm-adapter evaluate``, or file of predictions in any layout.
        data: ScienceQA with the official test split.
        board: file; made where there is none.
        name: of the run in tables.
        facts: method, learning, size, tuned, source, date; see ``mm_adapter.eval.leaderboard.board.make_entry``.

    Returns:
        The entry, and where the source tool reads the run's texts otherwise a note with both figures.

    Raises:
        UserError: the run is not one of the official test split, or is there already; the board is then unchanged.
    """
    run = read_run(path, read_dataset(data), name=name)
    entry = make_entry(run, **facts)
    add_entry(board, entry)
    return entry, source_notes([run.system])


def leaderboard(
    board: Path, runs: Sequence[Path] = (), data: str | None = None, split: str = "test", published: Path | None = None
) -> Leaderboard:
    """Return published rows, the board's entries and some runs: ranked, or apart where they must not be.

    Raises:
        UserError: a file cannot be read, or runs are named without data to hold them against.
    """
    rows = published_rows(published) + [entry.to_row() for entry in read_board(board)]
    apart: list[Run] = []
    systems = []
    if runs and data is None:
        raise UserError("--runs needs --data: the questions that were answered.")
    if data is not None and runs:
        dataset = read_dataset(data)
        for path in runs:
            run = read_run(path, dataset, split)
            systems.append(run.system)
            if run.apart:
                apart.append(run)
            else:
                row = make_entry(run).to_row()
                # A run that the board holds already is the same row, not another one.
                rows += [] if any(row.outcomes == other.outcomes for other in rows) else [row]
    return Leaderboard(ranked(rows), apart, source_notes(systems))


def write_leaderboard(folder: Path, rows: Sequence[Ranked], apart: Sequence[Run], notes: Sequence[str] = ()) -> None:
    """Write ``leaderboard.md``, ``.csv``, ``.json`` and ``.png`` into ``folder``, each atomically.

    Raises:
        UserError: a file cannot be written.
    """
    table = leaderboard_table(rows, classes=True)
    parts = ["# ScienceQA leaderboard\n", "Accuracy in percent on the official test split (4,241 questions).\n"]
    parts.append(to_markdown(table))
    if apart:
        parts += ["## Not ranked\n", to_markdown(apart_table(apart))]
    parts += [f"{markdown_text(note)}\n" for note in notes]
    write_text(folder / "leaderboard.md", "\n".join(parts))
    write_text(folder / "leaderboard.csv", to_csv(table))
    values = {"rows": [_values(one) for one in rows], "apart": _apart_values(apart), "notes": list(notes)}
    write_json(folder / "leaderboard.json", values)
    plot_tuned(rows, folder / "leaderboard.png")


def _values(one: Ranked) -> dict[str, Any]:
    row = one.row
    interval = None if one.interval is None else [one.interval.low, one.interval.high]
    facts = {"model": row.model, "method": row.method, "learning": row.learning, "size": row.size, "tuned": row.tuned}
    published = {"source": row.source, "date": row.date, "is_run": row.outcomes is not None}
    return {
        "rank": one.rank, **facts, **published, "accuracies": dict(row.accuracies), "interval": interval,
        "verdicts": one.verdicts,
    }  # fmt: skip


def _apart_values(runs: Sequence[Run]) -> list[dict[str, Any]]:
    return [
        {
            "model": run.system.name,
            "split": run.split,
            "questions": len(run.system.questions),
            "official": run.system.metrics.official,
            "reason": run.apart,
        }
        for run in runs
    ]
