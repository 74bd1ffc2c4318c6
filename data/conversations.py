"""Read instructions and conversations: Alpaca's and LLaVA's JSON, JSONL, a table, parquet files, a folder, a hub id.

A record of Alpaca's has ``instruction``, ``input`` (may be missing) and ``output``; ``id`` and ``source`` are kept. One
of LLaVA's has ``conversations`` and perhaps an ``image``. A table has image, question and answer.
"""

import csv
import io
import os
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mm_adapter.core.errors import UserError, suggestion
from mm_adapter.data.conversation import ASSISTANT, USER, Conversation, Instruction, Turn
from mm_adapter.data.hub import load_splits, read_rows
from mm_adapter.data.readers import HUB_ID
from mm_adapter.data.record import (
    BadRecord,
    convert_records,
    find_picture,
    read_records,
    read_text,
    required_text,
    text_field,
)

FILES = (".json", ".jsonl", ".csv")
COLUMNS = ("id", "instruction", "input", "output", "source")


def read_instructions(source: str, split: str = "train") -> list[Instruction]:
    """Return the instructions of a file, a folder of parquet files, or a hub dataset.

    Args:
        source: what the user gave as ``--data``; what exists on disk wins over a hub id of the same name.
        split: ``train``, ``val`` or ``test`` of a folder or hub dataset; a file has none.

    Raises:
        UserError: nothing can be read there, or a field is missing: says in which line, record or row.
    """
    path = Path(source)
    if os.path.isfile(source):
        return convert_records(path, read_records(path, "the file of instructions"), instruction_from_record)
    if not os.path.isdir(source) and (path.suffix in FILES or not HUB_ID.fullmatch(source)):
        raise UserError(f"{source}: this file or folder does not exist. Check the path, or give a hub id (owner/name).")
    splits = load_splits(source, COLUMNS)
    if split not in splits:
        listed = ", ".join(splits) or "none"
        raise UserError(f"{source}: there is no split {split!r}{suggestion(split, list(splits))}. There are: {listed}.")
    rows = [(f"split {split}, row {row}", record) for row, record in enumerate(read_rows(source, split, splits[split]))]
    if not rows:
        raise UserError(f"{source}: split {split!r} is empty.")
    return convert_records(path, rows, instruction_from_record)


def instruction_from_record(place: str, record: Any) -> Instruction:
    """Return the instruction in one record; ``place`` is its id where it has none.

    Raises:
        BadRecord: ``instruction`` or ``output`` is missing, or a field is no text.
    """
    return Instruction(
        id=str(record["id"]) if isinstance(record, dict) and isinstance(record.get("id"), str | int) else place,
        instruction=required_text(record, "instruction"),
        output=required_text(record, "output", blank=True),
        input=text_field(record, "input"),
        source=text_field(record, "source"),
    )


IMAGE = "<image>"
ROLES = {"human": USER, "gpt": ASSISTANT, USER: USER, ASSISTANT: ASSISTANT}


def read_llava(path: Path, images: Path | None = None) -> list[Conversation]:
    """Return the conversations of a JSON list or JSONL file.

    Args:
        path: records with ``conversations`` (``from``, ``value``), ``image`` where there is one, and ``id``.
        images: folder that ``image`` is relative to; the file's own by default.

    Raises:
        UserError: the file cannot be read, or a record is bad: roles out of turn, ``<image>`` without a picture or a
            picture without ``<image>``, a picture that is missing or outside the folder. Says which.
    """
    folder = path.parent if images is None else images
    records = read_records(path, "the file of conversations")
    return convert_records(path, records, lambda place, record: conversation_from_record(place, record, folder))


def conversation_from_record(place: str, record: Any, images: Path) -> Conversation:
    """Return the conversation in one record; ``place`` is its id where it has none.

    Raises:
        BadRecord: it is none; see ``read_llava``.
    """
    listed = record.get("conversations") if isinstance(record, Mapping) else None
    if not isinstance(listed, list) or not listed:
        raise BadRecord("has no list of turns in 'conversations'")
    turns = [_turn(number, turn) for number, turn in enumerate(listed)]
    if len(turns) % 2:
        raise BadRecord(f"ends with turn {len(turns) - 1} of the user, who gets no response")
    named = record.get("image")
    marks = [turn.text.count(IMAGE) for turn in turns]
    if any(marks[1:]) or marks[0] > 1:
        raise BadRecord(f"has {IMAGE} elsewhere than once in the first turn; one picture a conversation can be shown")
    if marks[0] and named is None:
        raise BadRecord(f"has {IMAGE} in its first turn but names no picture in 'image'")
    if named is not None and not marks[0]:
        raise BadRecord(f"names a picture in 'image' but its first turn has no {IMAGE}")
    first = turns[0].text.replace(IMAGE, "").strip()
    if not first:
        raise BadRecord(f"has nothing but {IMAGE} in its first turn")
    own = record.get("id")
    return Conversation(
        id=str(own) if isinstance(own, str | int) else place,
        turns=(Turn(USER, first), *turns[1:]),
        image=None if named is None else find_picture(images, named),
    )


def _turn(number: int, turn: Any) -> Turn:
    role, expected = required_text(turn, "from"), (USER, ASSISTANT)[number % 2]
    if ROLES.get(role) != expected:
        raise BadRecord(f"has turn {number} from {role[:40]!r} where the {expected} is next")
    return Turn(expected, required_text(turn, "value"))


TABLE_COLUMNS = ("image", "question", "answer")
_WHAT = "the table of questions"


def read_table(path: Path, images: Path | None = None) -> list[Conversation]:
    """Return one exchange per row.

    Args:
        path: ``.csv`` with a header, or records in JSON; other columns are passed over, ``image`` may be empty.
        images: folder that ``image`` is relative to; the table's own by default.

    Raises:
        UserError: the file cannot be read, a column is missing, or a row is bad: no question, no answer, a picture
            that is missing or outside the folder. Says in which line.
    """
    folder = path.parent if images is None else images
    records = _read_csv(path) if path.suffix.lower() == ".csv" else read_records(path, _WHAT)
    return convert_records(path, records, lambda place, record: exchange_from_record(place, record, folder))


def exchange_from_record(place: str, record: Any, images: Path) -> Conversation:
    """Return the exchange in one row; ``place`` is its id.

    Raises:
        BadRecord: it is none; see ``read_table``.
    """
    turns = (Turn(USER, required_text(record, "question").strip()), Turn(ASSISTANT, required_text(record, "answer")))
    named = record.get("image") if isinstance(record, Mapping) else None
    return Conversation(place, turns, None if named in (None, "") else find_picture(images, named))


def _read_csv(path: Path) -> list[tuple[str, Any]]:
    # Universal newlines would change line breaks inside quoted cells; the module wants to see them as they are.
    reader = csv.DictReader(io.StringIO(read_text(path, _WHAT), newline=""), strict=True)
    rows: list[tuple[str, Any]] = []
    try:
        header = reader.fieldnames or []
        missing = [name for name in TABLE_COLUMNS[1:] if name not in header]
        if missing:
            named = ", ".join(TABLE_COLUMNS)
            nearest = suggestion(missing[0], list(header))
            raise UserError(f"{path}: {_WHAT} has no column {missing[0]!r}{nearest}. Its first line must name {named}.")
        for row in reader:
            if None in row:
                raise UserError(f"{path}, line {reader.line_num}: more cells than columns. Quote cells with commas.")
            rows.append((f"line {reader.line_num}", row))
    except csv.Error as error:
        raise UserError(
            f"{path}, line {reader.reader.line_num}: not CSV ({error}). Quote cells with line breaks."
        ) from None
    if not rows:
        raise UserError(f"{path}: {_WHAT} is empty.")
    return rows


def read_conversations(source: str, images: Path | None = None, split: str = "train") -> list[Conversation]:
    """Return the conversations of ``source``, whichever of the formats it is in.

    A ``.csv`` is a table. A file of JSON is what its first record is: LLaVA's (``conversations``), Alpaca's
    (``instruction``) or a table (``question``). Everything else is a folder of parquet files or a hub id in Alpaca's.

    Args:
        source: what the user gave as ``--data``.
        images: folder of the pictures; the file's own by default.
        split: ``train``, ``val`` or ``test`` of a folder or hub dataset; a file has none.

    Raises:
        UserError: nothing usable is there, see the readers.
    """
    path = Path(source)
    if images is not None and not os.path.isdir(images):
        raise UserError(f"{images}: this image folder does not exist. Check the path.")
    if not os.path.isfile(source):
        return [instruction.to_conversation() for instruction in read_instructions(source, split)]
    if path.suffix.lower() == ".csv":
        return read_table(path, images)
    records = read_records(path, "the file of conversations")
    return convert_records(path, records, _converter(path, records[0], path.parent if images is None else images))


def is_conversations(source: str) -> bool:
    """Tell whether ``source`` is a file, or a folder of split files, of conversations; hub ids are not looked up."""
    return os.path.isfile(source) or any(_split_file(source, split) is not None for split in ("train", "test"))


def read_splits(source: str, images: Path | None = None, seed: int = 0) -> dict[str, list[Conversation]]:
    """Return conversations to train on and to validate with.

    A folder has ``train.json`` and ``val.json`` (or ``.jsonl``, ``.csv``). Of a single file, or of a hub dataset, which
    has no split for it, a seeded twentieth is held out.

    Raises:
        UserError: nothing usable is there, or too little to hold something out.
    """
    if os.path.isdir(source) and _split_file(source, "val") is not None:
        return {split: read_split(source, split, images) for split in ("train", "val")}
    everything = read_split(source, "train", images)
    if len(everything) < 2:
        raise UserError(f"{source}: {len(everything)} conversations; at least two are needed, one to validate with.")
    order = random.Random(seed).sample(range(len(everything)), len(everything))
    held_out = set(order[: max(1, len(everything) // 20)])
    parts: dict[str, list[Conversation]] = {"train": [], "val": []}
    for index, conversation in enumerate(everything):
        parts["val" if index in held_out else "train"].append(conversation)
    return parts


def read_split(source: str, split: str, images: Path | None = None) -> list[Conversation]:
    """Return the conversations of one split; a single file is all of every split.

    Raises:
        UserError: nothing usable is there.
    """
    file = _split_file(source, split)
    if file is None and os.path.isdir(source) and is_conversations(source):
        raise UserError(f"{source}: there is no {split}.json, {split}.jsonl or {split}.csv in this folder.")
    return _with_own_ids(read_conversations(source if file is None else str(file), images, split))


def _with_own_ids(conversations: list[Conversation]) -> list[Conversation]:
    """Number ids that come again, as in sets that were merged: what is kept for a conversation is kept by its id."""
    seen: set[str] = set()
    result = []
    for conversation in conversations:
        name, again = conversation.id, 1
        while name in seen:
            again += 1
            name = f"{conversation.id} ({again})"
        seen.add(name)
        result.append(replace(conversation, id=name))
    return result


def _split_file(source: str, split: str) -> Path | None:
    candidates = [Path(source) / f"{split}.{kind}" for kind in ("json", "jsonl", "csv")]
    return next((path for path in candidates if os.path.isfile(path)), None)


def _converter(path: Path, first: tuple[str, Any], folder: Path) -> Callable[[str, Any], Conversation]:
    """Return what makes a conversation of records like the first one."""
    place, record = first
    keys = set(record) if isinstance(record, Mapping) else set()
    if "conversations" in keys:
        return lambda place, record: conversation_from_record(place, record, folder)
    if "instruction" in keys:
        return lambda place, record: instruction_from_record(place, record).to_conversation()
    if "question" in keys:
        return lambda place, record: exchange_from_record(place, record, folder)
    raise UserError(
        f"{path}, {place}: 'conversations' (LLaVA), 'instruction' (Alpaca) or 'question' (table) must be a key of the "
        "first record; the file is in none of these formats."
    )
