"""One door for every place that instructions and conversations come from."""

import os
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mm_adapter.core.errors import UserError
from mm_adapter.data.conversation import Conversation
from mm_adapter.data.instructions import instruction_from_record, read_instructions
from mm_adapter.data.json_records import convert_records, read_records
from mm_adapter.data.llava import conversation_from_record
from mm_adapter.data.table import exchange_from_record, read_table


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
