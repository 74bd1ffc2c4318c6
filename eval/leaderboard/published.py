"""The published results: 109 rows as the public ScienceQA leaderboard listed them, each with source and date."""

import csv
import datetime
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit

from mm_adapter.core.errors import UserError
from mm_adapter.eval.leaderboard.row import Row, parameters
from mm_adapter.eval.metrics import COLUMNS

_FIELDS = ("model", "method", "learning", "size", "tuned_params", "source", "date", *COLUMNS)


def published_rows(path: Path | None = None) -> list[Row]:
    """Return the published rows, in the order of the file.

    Args:
        path: another file of the same columns; the one that comes with the package by default.

    Raises:
        UserError: the file is missing or not as it should be: the line is named, such as a row without source.
    """
    source = path or resources.files("mm_adapter.eval.leaderboard").joinpath("published.csv")
    try:
        text = source.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{source}: the published results cannot be read ({error}).") from None
    reader = csv.DictReader(text.splitlines())
    missing = [name for name in _FIELDS if name not in (reader.fieldnames or ())]
    if missing:
        raise UserError(f"{source}: the column {missing[0]!r} is missing. There must be: {', '.join(_FIELDS)}.")
    return [_row(fields, f"{source}, line {reader.line_num}") for fields in reader]


def official_pids() -> tuple[str, ...]:
    """Return the 4,241 ids of the official test split, in its order."""
    return tuple(resources.files("mm_adapter.eval.leaderboard").joinpath("official_test_pids.txt").read_text().split())


def _row(fields: dict[str, str], where: str) -> Row:
    values = {name: (fields[name] or "").strip() for name in _FIELDS}
    if not values["model"]:
        raise UserError(f"{where}: the row has no model. Name it.")
    if not is_link(values["source"]):
        raise UserError(f"{where}: {values['model']!r} has no source. Give the link to where it was published.")
    try:
        datetime.date.fromisoformat(values["date"])
    except ValueError:
        raise UserError(
            f"{where}: {values['model']!r} has the date {values['date']!r}. Write it as 2023-03-28."
        ) from None
    accuracies = {name: _accuracy(values[name], name, where) for name in COLUMNS}
    if all(value is None for value in accuracies.values()):
        raise UserError(f"{where}: {values['model']!r} has no accuracy in any column.")
    method, learning, size = ("" if values[name] == "-" else values[name] for name in ("method", "learning", "size"))
    try:
        tuned = parameters(values["tuned_params"])
    except UserError as error:
        raise UserError(f"{where}: tuned_params {error}") from None
    return Row(values["model"], method, learning, size, tuned, values["source"], values["date"], accuracies)


def is_link(text: str) -> bool:
    """Say whether a text is a web address that a page may link to; ``javascript:`` and the like are none."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def _accuracy(text: str, name: str, where: str) -> float | None:
    if text in ("", "-"):
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise UserError(f"{where}: {name} is {text!r}. Write percent from 0 to 100, or - where it was not published.")
    return value
