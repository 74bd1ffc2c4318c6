"""Instructions in Alpaca's format: a JSON list, JSONL, parquet files, or a hub id such as ``tatsu-lab/alpaca``.

A record has ``instruction``, ``input`` (may be missing) and ``output``; ``id`` and ``source`` are kept where they are.
"""

import os
from pathlib import Path
from typing import Any

from mm_adapter.core.errors import UserError, suggestion
from mm_adapter.data.conversation import Instruction
from mm_adapter.data.hub import load_splits, read_rows
from mm_adapter.data.json_records import convert_records, read_records
from mm_adapter.data.readers import HUB_ID
from mm_adapter.data.record import required_text, text_field

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
