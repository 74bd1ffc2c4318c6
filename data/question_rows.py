"""A table of multiple-choice rows as questions, with its splits and what it was understood as."""

from collections.abc import Mapping, Sequence

from mm_adapter.core.errors import UserError
from mm_adapter.data.choice_rows import ChoiceRow, choice_row, choose_reading, whole_index
from mm_adapter.data.columns import Columns, find_columns, parse_choice
from mm_adapter.data.pictures import PictureSource
from mm_adapter.data.question import Dataset, Question, TableOptions, divide, refuse_bad
from mm_adapter.data.record import BadRecord, question_from_record
from mm_adapter.data.table_files import ALL, Table, our_split


def read_questions(
    table: Table, skip_bad: bool = False, check_images: bool = False, options: TableOptions | None = None
) -> Dataset:
    """Return the questions of a table.

    Args:
        table: with columns of options.
        skip_bad: leave bad rows out and record why, instead of refusing the table.
        check_images: a row whose picture file is missing is bad.
        options: how the table is taken.

    Raises:
        UserError: a column is not understood; answers can be read in two ways; or, without ``skip_bad``, a row is bad.
    """
    options = options or TableOptions()
    columns = find_columns(table.source, table.columns, parse_choice(options.columns))
    if not columns.has_options:
        raise UserError(
            f"{table.source}: no column holds options to choose from (choices, options, or A, B, C), so these are no "
            "multiple-choice questions. Say where options are with --columns options=COLUMN."
        )
    pictures = PictureSource(
        options.images or table.folder, options.allow_urls, must_exist=check_images, bad=options.bad_pictures
    )
    bad: dict[str, str] = {}
    found: dict[str, tuple[str, ChoiceRow]] = {}
    splits: dict[str, list[str]] = {}
    lone = len(table.splits) == 1
    for split, rows in table.splits.items():
        for number, (place, record) in enumerate(rows):
            own = str(number) if lone and split == ALL else f"{split}-{number}"
            pid = own
            named = columns.value(record, "split") if isinstance(record, Mapping) else None
            home = our_split(str(named)) if named else split
            try:
                row = choice_row(columns, own, record)
                pid = row.pid
                if pid in found or pid in bad:
                    found.pop(pid, None)
                    raise BadRecord(f"is there twice, the second time in {place} of split {split!r}")
                found[pid] = (home, row)
            except BadRecord as reason:
                bad[pid] = str(reason)
            splits.setdefault(home, []).append(pid)
    reading = choose_reading(table.source, (row for _, row in found.values()), options.answers)
    questions: list[Question] = []
    for pid, (split, row) in found.items():
        try:
            questions.append(_question_of(row, reading, split, pictures, columns.name("image")))
        except BadRecord as reason:
            bad[pid] = str(reason)
    divided = divide({name: tuple(dict.fromkeys(pids)) for name, pids in splits.items()}, options.val_share, bad)
    dataset = Dataset(tuple(questions), divided, bad, table.source, _summary(questions, columns, reading))
    return dataset if skip_bad else refuse_bad(dataset, table.source)


def _question_of(row: ChoiceRow, reading: str | None, split: str, pictures: PictureSource, image_name: str) -> Question:
    """Return the question in a row whose answer is read in the way of its table.

    Raises:
        BadRecord: the answer names no option, a field is not what it should be, or the picture cannot be used.
    """
    found = row.readings
    index = found.get(reading) if reading else next(iter(found.values()), None)
    if index is None:
        how = {"index": f"an index from 0 to {len(row.options) - 1}", "letter": "the letter of an option"}
        number = whole_index(row.answer)
        if isinstance(row.answer, float) and number is None:
            raise BadRecord(f"has {row.answer} in the answer, which is no whole number and so no index of an option")
        if number is not None:
            raise BadRecord(f"has answer index {number} out of range: its {len(row.options)} options are 0 to "
                            f"{len(row.options) - 1}")  # fmt: skip
        wanted = how.get(reading or "", "an option by its index, letter or text")
        raise BadRecord(f"has the answer {str(row.answer)[:60]!r}, which is not {wanted}")
    image = pictures.find(row.image, image_name)
    return question_from_record(row.pid, {**row.record, "answer": index}, split, image)


def _summary(questions: Sequence[Question], columns: Columns, reading: str | None) -> str:
    counts = sorted({len(question.options) for question in questions})
    offered = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}" if counts else "no"
    pictured = sum(question.image is not None for question in questions)
    passed = f"; passed over: {', '.join(filter(None, columns.passed_over))}" if any(columns.passed_over) else ""
    return (
        f"{len(questions):,} questions, {pictured:,} with a picture, {offered} options each, answers by "
        f"{reading or 'index, letter or text'}{passed}"
    )
