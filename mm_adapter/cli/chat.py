"""``mm-adapter chat``."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from mm_adapter.cli.asking_options import GenerationOptions
from mm_adapter.cli.generate import not_text, show
from mm_adapter.cli.options import ModelOptions, Value, whole
from mm_adapter.core.errors import UserError, suggestion

COMMANDS = ("/reset", "/image", "/quit")
HELP = "/image FILE shows a picture, /reset begins anew, /quit ends; Ctrl-C ends an answer."
EXAMPLES = (
    "mm-adapter chat --adapter runs/alpaca",
    "mm-adapter chat --adapter runs/first --image cat.png --temperature 0.7",
)


def chat(
    *,
    model: ModelOptions,
    image: Annotated[Path | None, Parameter(help="Talk about this picture."), Value("FILE")] = None,
    context: Annotated[
        int | None,
        Parameter(
            converter=whole,
            validator=Number(gte=2),
            help="Keep this many tokens of the conversation; by default as many as the model takes, up to 4096.",
        ),
    ] = None,
    system: Annotated[str, Parameter(help="Let the system say this before the conversation."), Value("TEXT")] = "",
    generation: GenerationOptions = GenerationOptions(),  # noqa: B008 - frozen
) -> None:
    """Talk with a model: every line of a terminal or a pipe is answered."""
    # Before torch is imported: a typing error costs no time.
    model.check(image)
    from mm_adapter.inference.chat_session import ChatSession

    chosen = generation.config()
    session = ChatSession(model.load(), chosen, image, context, system)
    terminal = sys.stdin.isatty()
    if terminal:
        _tell(HELP)
    converse(session, _typed_lines() if terminal else _piped_lines(), show, _tell, patient=terminal)


def converse(
    session: Any,
    lines: Iterable[str],
    write: Callable[[str], None],
    say: Callable[[str], None],
    patient: bool = False,
) -> None:
    """Answer line after line until they end or ``/quit`` comes; Ctrl-C ends what is being done for one line.

    Args:
        session: the conversation.
        lines: what the user says; a line that begins with ``/`` and a command is one.
        write: receives the answers piece by piece, a newline after each.
        say: receives lines about the conversation, for a person.
        patient: say what is wrong with a line and go on, as with a person who can say it again.

    Raises:
        UserError: a line cannot be used, unless ``patient``.
    """
    for line in lines:
        text = line.strip()
        if text == "/quit":
            return
        if not text:
            continue
        try:
            if text.startswith("/"):
                _obey(session, text, say)
            else:
                _answer(session, text, write, say)
        except KeyboardInterrupt:
            write("\n")
            say("interrupted")
        except UserError as error:
            if not patient:
                raise
            say(str(error))


def _obey(session: Any, text: str, say: Callable[[str], None]) -> None:
    name, _, argument = text.partition(" ")
    argument = argument.strip()
    if name == "/reset" and not argument:
        session.reset()
        say("the conversation begins anew")
    elif name == "/image" and argument:
        session.show(Path(argument))
        say(f"the conversation is about {argument}")
    else:
        raise UserError(f"{text!r} is no command{suggestion(name, COMMANDS)}. {HELP}")


def _answer(session: Any, text: str, write: Callable[[str], None], say: Callable[[str], None]) -> None:
    pieces = session.reply(text)
    if session.dropped:
        say(f"the context is full: the oldest exchanges were dropped ({session.dropped})")
    with closing(pieces):
        for piece in pieces:
            write(piece)
    write("\n")


def _typed_lines() -> Iterator[str]:
    """Yield lines until Ctrl-D; Ctrl-C drops the line that was begun."""
    while True:
        try:
            yield input("> ")
        except EOFError:
            show("\n")
            return
        except KeyboardInterrupt:
            show("\n")


def _piped_lines() -> Iterator[str]:
    try:
        yield from sys.stdin
    except UnicodeDecodeError as error:
        raise not_text(error) from None


def _tell(line: str) -> None:
    print(f"[{line}]", file=sys.stderr, flush=True)
