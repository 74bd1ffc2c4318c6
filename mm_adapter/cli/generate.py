"""``mm-adapter generate``."""

import json as json_text
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from mm_adapter.cli.asking_options import GenerationOptions
from mm_adapter.cli.options import Count, ModelOptions, Value
from mm_adapter.core.errors import UserError
from mm_adapter.core.files import check_exists

_STANDARD_INPUT = Path("standard input")
EXAMPLES = (
    "mm-adapter generate --adapter runs/alpaca 'Name three primary colours.'",
    "mm-adapter generate --adapter runs/alpaca --file prompts.jsonl --json --temperature 0.7 --seed 1",
    "echo 'Once upon a time' | mm-adapter generate --adapter none --raw",
)


def generate(
    prompt: Annotated[
        str | None,
        Parameter(help="Answer this; by default what --file or standard input holds."),
        Value("PROMPT"),
    ] = None,
    /,
    *,
    model: ModelOptions,
    file: Annotated[
        Path | None,
        Parameter(help="Read a prompt a line, or JSON with prompt, or instruction and input."),
        Value("FILE"),
    ] = None,
    image: Annotated[
        Path | None, Parameter(help="Show this picture with every prompt that names none of its own."), Value("FILE")
    ] = None,
    raw: Annotated[bool, Parameter(help="Continue the prompt as it stands, instead of taking it for a request.")] = (
        False
    ),
    system: Annotated[str, Parameter(help="Let the system say this before every request."), Value("TEXT")] = "",
    batch_size: Annotated[Count, Parameter(help="Write on this many prompts at a time.")] = 8,
    json: Annotated[bool, Parameter(help="Print a JSON object a line for programs.")] = False,
    generation: GenerationOptions = GenerationOptions(),  # noqa: B008 - frozen
) -> None:
    """Write on a prompt as it comes, or on many in batches."""
    # Before torch is imported: a typing error costs no time.
    model.check(image)
    if raw and system:
        raise UserError("--system goes before a request, and --raw makes none of a prompt; leave one of them out.")
    if prompt is None:
        check_exists(file, "the file of prompts")
    from mm_adapter.inference.prompted_generation import generate as write
    from mm_adapter.inference.prompted_generation import stream

    chosen = generation.config()
    prompts = [replace(found, image=found.image or image) for found in _prompts(prompt, file, raw)]
    prompts = [replace(found, request=replace(found.request, system=system)) for found in prompts]
    loaded = model.load()
    if len(prompts) == 1 and not json:
        for piece in stream(loaded, prompts[0], chosen, raw):
            show(piece)
        show("\n")
        return
    written = write(loaded, prompts, chosen, raw, batch_size)
    for number, (asked, text) in enumerate(zip(prompts, written, strict=True), start=1):
        request = asked.request
        if json:
            said = {"prompt": request.text, **({"input": request.context} if request.context else {})}
            show(json_text.dumps({**said, **vars(text)}, ensure_ascii=False) + "\n")
        else:
            show(f"--- {number} of {len(prompts)}: {request.text}\n{text.text}\n\n")


def _prompts(prompt: str | None, file: Path | None, raw: bool) -> Any:
    from mm_adapter.data.conversation import USER, Turn
    from mm_adapter.data.prompt_file import PromptRecord, parse_prompts, read_prompts

    if prompt is not None and file is not None:
        raise UserError("a prompt and --file were given; leave one of them out.")
    if prompt is not None:
        if not prompt.strip():
            raise UserError("the prompt is empty; give some text.")
        return [PromptRecord(Turn(USER, prompt))]
    if file is not None:
        return read_prompts(file, raw)
    if sys.stdin is None or sys.stdin.isatty():
        raise UserError("there is no prompt: give one as an argument, name a --file, or pipe some in.")
    return parse_prompts(_STANDARD_INPUT, _read_standard_input(), raw)


def _read_standard_input() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise not_text(error) from None


def not_text(error: UnicodeDecodeError) -> UserError:
    """Return what to say of standard input that is in another encoding."""
    return UserError(f"{_STANDARD_INPUT}: it is not {error.encoding} text (byte {error.start}). Save it as UTF-8.")


def show(text: str) -> None:
    """Print text as it comes."""
    print(text, end="", flush=True)
