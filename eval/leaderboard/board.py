"""A local file of verified runs: one JSON object a line, written anew as a whole."""

import datetime
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mm_adapter.core.errors import UserError
from mm_adapter.core.files import write_text
from mm_adapter.eval.layouts.json_text import objects_of_lines, read_text
from mm_adapter.eval.leaderboard.published import is_link, official_pids
from mm_adapter.eval.leaderboard.row import MOST_PARAMETERS, Row
from mm_adapter.eval.leaderboard.submission import Run
from mm_adapter.eval.metrics import COLUMNS, percentage


@dataclass(frozen=True)
class Entry:
    """One verified run.

    Attributes:
        model, method, learning, size, tuned, source, date: see ``mm_adapter.eval.leaderboard.row.Row``.
        accuracies: column -> percent.
        outcomes: a 1 for every right and a 0 for every wrong answer, in the order of the official test split.
        answers_sha256: of what was asked (``mm_adapter.eval.leaderboard.submission.answers_digest``).
        recorded: whether the run said itself what it answered, so that changed answers were noticed.
    """

    model: str
    method: str
    learning: str
    size: str
    tuned: int | None
    source: str
    date: str
    accuracies: dict[str, float | None]
    outcomes: str
    answers_sha256: str
    recorded: bool

    def to_row(self) -> Row:
        """Return the row that is ranked."""
        values = asdict(self)
        del values["answers_sha256"]
        return Row(**{**values, "outcomes": tuple(mark == "1" for mark in self.outcomes)})


def make_entry(
    run: Run,
    method: str = "",
    learning: str = "",
    size: str = "",
    tuned: int | None = None,
    source: str = "",
    date: str = "",
) -> Entry:
    """Return a run as an entry.

    Args:
        tuned: trained parameters; the run's own by default.
        date: today by default.

    Raises:
        UserError: the run may not stand among official results (a subset, another split), or the link is none.
    """
    if run.apart:
        raise UserError(
            f"{run.system.name} cannot be added: {run.apart}. Only runs on all {len(official_pids())} questions of the "
            "official test split are ranked; `mm-adapter leaderboard --runs` shows others apart."
        )
    if source and not is_link(source):
        raise UserError(f"--link {source!r} is no web address. Write it as https://...")
    date = date or datetime.date.today().isoformat()
    if not _is_date(date):
        raise UserError(f"--date {date!r} is no date. Write it as 2023-03-28.")
    right = run.system.outcomes
    return Entry(
        run.system.name,
        method,
        learning,
        size,
        run.tuned if tuned is None else tuned,
        source,
        date,
        {column: run.system.metrics.official[key] for column, key in COLUMNS.items()},
        "".join("1" if right[pid] else "0" for pid in official_pids()),
        run.digest,
        run.recorded,
    )


def read_board(path: Path) -> list[Entry]:
    """Return the entries of a board; none where there is no such file.

    Raises:
        UserError: a line is not an entry, or says another average than its own marks.
    """
    if not path.exists() or (path.is_file() and not path.stat().st_size):
        return []
    lines = objects_of_lines(path, read_text(path), "it has no entry a line")
    entries = [_entry(where, fields) for where, fields in lines]
    if len({entry.outcomes for entry in entries}) < len(entries):
        raise UserError(f"{path}: two entries have the same right and wrong answers. Keep one of them.")
    return entries


def _entry(where: str, fields: dict[str, Any]) -> Entry:
    expected = Entry.__dataclass_fields__
    if set(fields) != set(expected):
        wrong = sorted(set(fields) ^ set(expected))
        raise UserError(f"{where}: this is no entry of a leaderboard ({wrong[0]!r}). Add runs with `leaderboard add`.")
    texts = ("model", "method", "learning", "size", "source", "date", "outcomes", "answers_sha256")
    accuracies, tuned = fields["accuracies"], fields["tuned"]
    sound = (
        all(isinstance(fields[name], str) for name in texts)
        and isinstance(accuracies, dict)
        and list(accuracies) == list(COLUMNS)
        and all(value is None or _is_percent(value) for value in accuracies.values())
        and (tuned is None or (type(tuned) is int and 0 <= tuned < MOST_PARAMETERS))
        and (not fields["source"] or is_link(fields["source"]))
        and _is_date(fields["date"])
        and isinstance(fields["recorded"], bool)
        and len(fields["outcomes"]) == len(official_pids())
        and set(fields["outcomes"]) <= {"0", "1"}
    )
    if not sound:
        raise UserError(f"{where}: a field of this entry has a value that no entry has. Add the run again.")
    entry = Entry(**fields)
    average = percentage(entry.outcomes.count("1"), len(entry.outcomes))
    if entry.accuracies["Avg"] != average:
        raise UserError(
            f"{where}: {entry.model!r} says {entry.accuracies['Avg']} %, but its answers give {average} %. "
            "Add the run again."
        )
    return entry


def _is_percent(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 100


def _is_date(text: str) -> bool:
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        return False
    return True


def add_entry(path: Path, entry: Entry) -> None:
    """Append an entry to a board, atomically.

    Raises:
        UserError: it is there already (the same name, or the same answers), or the board's other runs answered
            questions with other options or right answers.
    """
    entries = read_board(path)
    for place, other in enumerate(entries, start=1):
        if other.model == entry.model:
            raise UserError(f"{path}: {entry.model!r} is there already (entry {place}). Give the run another --name.")
        if other.outcomes == entry.outcomes:
            raise UserError(
                f"{path}: {other.model!r} (entry {place}) has the same right and wrong answers: a duplicate."
            )
        if other.answers_sha256 != entry.answers_sha256:
            raise UserError(
                f"{path}: {other.model!r} (entry {place}) answered other questions, options or answers than this run. "
                "Use the same problems file for all runs of a board."
            )
    write_board(path, [*entries, entry])


def write_board(path: Path, entries: Sequence[Entry]) -> None:
    """Write a board atomically, an entry a line.

    Raises:
        UserError: the file cannot be written.
    """
    write_text(path, "".join(json.dumps(asdict(entry), ensure_ascii=True) + "\n" for entry in entries))
