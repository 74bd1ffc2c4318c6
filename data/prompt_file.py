"""Prompts from a file or a pipe: one a line, as text or as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mm_adapter.core.errors import UserError
from mm_adapter.data.conversation import USER, Turn
from mm_adapter.data.pictures import PictureSource
from mm_adapter.data.record import (
    BadRecord,
    convert_records,
    parse_records,
    read_text,
    required_text,
    text_field,
)

JSON_FILES = (".json", ".jsonl")


@dataclass(frozen=True)
class PromptRecord:
    """What a model is given to write on.

    Attributes:
        request: what is asked, or the text that is to be continued.
        image: file of the picture that goes with it, or None.
        place: where it stands, for messages.
    """

    request: Turn
    image: Path | None = None
    place: str = "the prompt"


def read_prompts(path: Path, raw: bool = False) -> list[PromptRecord]:
    """Return the prompts of a file, see ``parse_prompts``; pictures are found beside it.

    Raises:
        UserError: the file cannot be read, or holds no usable prompts.
    """
    return parse_prompts(path, read_text(path, "the file of prompts"), raw)


def parse_prompts(path: Path, text: str, raw: bool = False) -> list[PromptRecord]:
    """Return the prompts in a text: every line that is not blank is one.

    Where the file is named as JSON or its first line begins with ``{``, every record has ``prompt``, or ``instruction``
    and perhaps ``input``, and perhaps ``image``.

    Args:
        path: that the text was read from, for messages and to find pictures.
        raw: prompts are continued as they stand, which a task apart from its input has no way to be.

    Raises:
        UserError: a record is bad, a picture is missing, or there is no prompt: says where.
    """
    if path.suffix.lower() in JSON_FILES or text.lstrip().startswith("{"):
        records = parse_records(path, text, "the file of prompts")
        prompts = convert_records(path, records, lambda _, record: _from_record(record, path.parent, raw))
        return [
            PromptRecord(prompt.request, prompt.image, f"{path}, {place}")
            for prompt, (place, _) in zip(prompts, records, strict=True)
        ]
    # Not splitlines: it also cuts at separators that may stand inside a line.
    lines = enumerate((line.removesuffix("\r") for line in text.split("\n")), start=1)
    prompts = [PromptRecord(Turn(USER, line), place=f"{path}, line {number}") for number, line in lines if line.strip()]
    if not prompts:
        raise UserError(f"{path}: there is no prompt in it. Put one on each line.")
    return prompts


def _from_record(record: Any, folder: Path, raw: bool) -> PromptRecord:
    if isinstance(record, Mapping) and "prompt" in record:
        if record.get("instruction") is not None:
            raise BadRecord("has 'prompt' and 'instruction' where one of them belongs")
        request = Turn(USER, required_text(record, "prompt"), text_field(record, "input"))
    else:
        request = Turn(USER, required_text(record, "instruction"), text_field(record, "input"))
        if raw:
            raise BadRecord("has 'instruction', which is put as a request; --raw continues a 'prompt'")
    if raw and request.context:
        raise BadRecord("has 'input', which goes with a request; --raw continues a 'prompt' alone")
    return PromptRecord(request, PictureSource(folder).find(record.get("image")))
