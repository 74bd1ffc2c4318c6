"""Predictions of any system as a table of VLMEvalKit, for its own evaluation: ``.tsv`` or ``.xlsx`` (`vlmevalkit`)."""

import csv
import io
import re
import string
from collections.abc import Mapping, Sequence
from pathlib import Path

from mm_adapter.core.errors import UserError
from mm_adapter.core.files import write_atomically, write_text
from mm_adapter.data.question import Question
from mm_adapter.eval.checks import check_predictions
from mm_adapter.eval.layouts.vlmevalkit import LOST_CELLS
from mm_adapter.eval.parsing import read_choice
from mm_adapter.eval.record import UNREADABLE, Prediction
from mm_adapter.eval.source_rules import vlmevalkit_choice

# Characters of a cell: what csv readers take by default, and what Excel holds.
_LONGEST = {".tsv": 131_071, ".xlsx": 32_767}
# No XML has these, and readers of text stumble over them; half a surrogate pair is no UTF-8.
_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def write_vlmevalkit(path: Path, predictions: Mapping[str, Prediction], questions: Sequence[Question]) -> None:
    """Write a row for each question that has a prediction, in the split's order.

    ``index`` is the place among the questions with a picture, as in VLMEvalKit's ScienceQA, where all rows have one;
    else the pid. ``prediction`` is what the system wrote, where VLMEvalKit and this project read its choice in that;
    else the letter of the choice, or nothing where it was unreadable. So every row is read again as it was.

    Args:
        path: ends in ``.tsv`` or ``.xlsx``.
        predictions: pid -> prediction.
        questions: of the split.

    Raises:
        UserError: the ending is another one, a question has no such prediction or more text than a cell holds, nothing
            is there to write, or the file cannot be written.
    """
    kind = path.suffix.lower()
    if kind not in _LONGEST:
        raise UserError(f"{path}: a table of VLMEvalKit ends in .tsv or .xlsx; rename it.")
    asked = [question for question in questions if question.pid in predictions]
    if not asked:
        raise UserError(f"{path}: there is no prediction of these questions to write. Check --data and --split.")
    check_predictions([predictions[question.pid] for question in asked], asked, str(path))
    letters = string.ascii_uppercase[: max(len(question.options) for question in asked)]
    pictured = {question.pid: place for place, question in enumerate(q for q in questions if q.image is not None)}
    counted = all(question.pid in pictured for question in asked)
    rows: list[list[str | int]] = [["index", "question", "hint", *letters, "answer", "prediction"]]
    for question in asked:
        index: str | int = pictured[question.pid] if counted else question.pid
        known = 0 <= question.answer < len(question.options)
        texts = [question.question, question.context, *question.options]
        texts += [""] * (len(letters) - len(question.options))
        texts += [letters[question.answer] if known else "", _written(predictions[question.pid], question, kind)]
        rows.append([index, *(_cell(text, question, kind) for text in texts)])
    if kind == ".tsv":
        write_text(path, _tsv(rows))
    else:
        write_atomically(path, lambda temporary: _fill_workbook(temporary, rows))


def _written(prediction: Prediction, question: Question, kind: str) -> str:
    """Return the text of a prediction in which its choice is read, by us and by VLMEvalKit."""
    text, options = _NO_TEXT.sub("\ufffd", prediction.raw_text), question.options
    readings = {read_choice(text, options, question.question)[0], vlmevalkit_choice(text, options)}
    if text.strip() not in LOST_CELLS and len(text) <= _LONGEST[kind] and readings == {prediction.choice}:
        return text
    return "" if prediction.choice == UNREADABLE else string.ascii_uppercase[prediction.choice]


def _cell(text: str, question: Question, kind: str) -> str:
    if len(text) > _LONGEST[kind]:
        other = " Write .tsv instead." if kind == ".xlsx" else ""
        raise UserError(
            f"question '{question.pid}': a text of {len(text):,} characters is more than a cell of {kind} holds "
            f"({_LONGEST[kind]:,}).{other}"
        )
    return _NO_TEXT.sub("\ufffd", text)


def _tsv(rows: Sequence[Sequence[str | int]]) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter="\t", lineterminator="\n").writerows(rows)
    return text.getvalue()


def _fill_workbook(path: Path, rows: Sequence[Sequence[str | int]]) -> None:
    # Imported here: most runs write no workbook.
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell

    workbook = Workbook(write_only=True)
    sheet = workbook.create_sheet("Sheet1")
    for row in rows:
        cells = []
        for value in row:
            cell = WriteOnlyCell(sheet, value)
            if isinstance(value, str):
                cell.data_type = "s"  # a text that begins with = is no formula
            cells.append(cell)
        sheet.append(cells)
    with open(path, "wb") as file:
        workbook.save(file)
