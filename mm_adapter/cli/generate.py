"""Options of ``mm-adapter generate`` and ``mm-adapter chat``, and what they print."""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from mm_adapter.cli.model_options import add_model_options, load_chosen_model
from mm_adapter.cli.parser import add_command, natural
from mm_adapter.core.errors import UserError

_STANDARD_INPUT = Path("standard input")


def add_generate(commands: Any) -> None:
    """Add the subcommand to the parser's ``commands``."""
    text = "Write on a prompt as it comes, or on many from a file or a pipe in batches."
    parser = add_command(commands, "generate", _generate, text)
    add_model_options(parser)
    parser.add_argument("prompt", nargs="?", metavar="PROMPT", help="what is asked; else --file or standard input")
    parser.add_argument("--file", type=Path, help="a prompt a line, or JSON with prompt, or instruction and input")
    parser.add_argument("--image", type=Path, help="picture, of every prompt that names none of its own")
    parser.add_argument("--raw", action="store_true", help="continue the prompt as it stands, not as a request")
    parser.add_argument("--batch-size", type=int, default=8, help="prompts that are written on at a time")
    parser.add_argument("--json", action="store_true", help="print a JSON object a line for programs")
    _writing_options(parser)


def add_chat(commands: Any) -> None:
    """Add the subcommand to the parser's ``commands``."""
    text = "Talk with a model: every line of a terminal or a pipe is answered."
    parser = add_command(commands, "chat", _chat, text)
    add_model_options(parser)
    parser.add_argument("--image", type=Path, help="picture that the conversation is about")
    parser.add_argument("--context", type=int, help="tokens of the conversation that are kept; the model's, up to 4096")
    _writing_options(parser)


def _writing_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--max-new-tokens", type=int, default=256, help="limit of a text")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 (default): always the most likely token")
    parser.add_argument("--top-k", type=int, help="draw from this many most likely tokens alone")
    parser.add_argument("--top-p", type=float, help="draw from the likeliest tokens that together have this share")
    parser.add_argument("--repetition-penalty", type=float, default=1.0, help="over 1: what was said is less likely")
    parser.add_argument("--seed", type=natural, help="of the draws; another text each time without it")
    parser.add_argument("--stop", action="append", metavar="STRING", help="ends the text; can be given several times")


def _writing(options: argparse.Namespace) -> Any:
    from mm_adapter.inference.generation import GenerationConfig, Sampling

    draws = {name: getattr(options, name) for name in ("top_k", "top_p") if getattr(options, name) is not None}
    if draws and options.temperature == 0:
        name = next(iter(draws)).replace("_", "-")
        raise UserError(f"--{name} has no effect at temperature 0, where nothing is drawn; add --temperature.")
    sampling = Sampling(options.temperature, repetition_penalty=options.repetition_penalty, **draws)
    return GenerationConfig(options.max_new_tokens, sampling, tuple(options.stop or ()), options.seed)


def _generate(options: argparse.Namespace) -> None:
    from mm_adapter.inference.prompted_generation import generate, stream

    writing, prompts = _writing(options), _prompts(options)
    model = load_chosen_model(options)
    if len(prompts) == 1 and not options.json:
        for piece in stream(model, prompts[0], writing, options.raw):
            _show(piece)
        _show("\n")
        return
    written = generate(model, prompts, writing, options.raw, options.batch_size)
    for number, (prompt, text) in enumerate(zip(prompts, written, strict=True), start=1):
        if options.json:
            asked = {
                "prompt": prompt.request.text,
                **({"input": prompt.request.context} if prompt.request.context else {}),
            }
            _show(json.dumps({**asked, **vars(text)}, ensure_ascii=False) + "\n")
        else:
            _show(f"--- {number} of {len(prompts)}: {prompt.request.text}\n{text.text}\n\n")


def _prompts(options: argparse.Namespace) -> Any:
    from mm_adapter.data.conversation import USER, Turn
    from mm_adapter.data.prompt_file import Prompt, parse_prompts, read_prompts

    if options.prompt is not None and options.file is not None:
        raise UserError("a prompt and --file were given; leave one of them out.")
    if options.prompt is not None:
        if not options.prompt.strip():
            raise UserError("the prompt is empty; give some text.")
        prompts = [Prompt(Turn(USER, options.prompt))]
    elif options.file is not None:
        prompts = read_prompts(options.file, options.raw)
    elif sys.stdin is None or sys.stdin.isatty():
        raise UserError("there is no prompt: give one as an argument, name a --file, or pipe some in.")
    else:
        prompts = parse_prompts(_STANDARD_INPUT, _read_standard_input(), options.raw)
    return [replace(prompt, image=prompt.image or options.image) for prompt in prompts]


def _chat(options: argparse.Namespace) -> None:
    from mm_adapter.cli.chat import HELP, chat
    from mm_adapter.inference.chat_session import ChatSession

    writing = _writing(options)
    session = ChatSession(load_chosen_model(options), writing, options.image, options.context)
    terminal = sys.stdin.isatty()
    if terminal:
        _say(HELP)
    chat(session, _typed_lines() if terminal else _piped_lines(), _show, _say, patient=terminal)


def _typed_lines() -> Iterator[str]:
    """Yield lines until Ctrl-D; Ctrl-C drops the line that was begun."""
    while True:
        try:
            yield input("> ")
        except EOFError:
            _show("\n")
            return
        except KeyboardInterrupt:
            _show("\n")


def _piped_lines() -> Iterator[str]:
    try:
        yield from sys.stdin
    except UnicodeDecodeError as error:
        raise _no_utf8(error) from None


def _read_standard_input() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise _no_utf8(error) from None


def _no_utf8(error: UnicodeDecodeError) -> UserError:
    return UserError(f"{_STANDARD_INPUT}: it is not {error.encoding} text (byte {error.start}). Save it as UTF-8.")


def _show(text: str) -> None:
    print(text, end="", flush=True)


def _say(line: str) -> None:
    print(f"[{line}]", file=sys.stderr, flush=True)
