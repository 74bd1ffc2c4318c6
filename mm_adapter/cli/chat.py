"""``mm-adapter chat``: a conversation over the lines of a terminal or a pipe."""

from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

from mm_adapter.core.errors import UserError, suggestion
from mm_adapter.inference.chat_session import ChatSession

COMMANDS = ("/reset", "/image", "/quit")
HELP = "/image FILE shows a picture, /reset begins anew, /quit ends; Ctrl-C ends an answer."


def chat(
    session: ChatSession,
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


def _obey(session: ChatSession, text: str, say: Callable[[str], None]) -> None:
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


def _answer(session: ChatSession, text: str, write: Callable[[str], None], say: Callable[[str], None]) -> None:
    pieces = session.reply(text)
    if session.dropped:
        say(f"the context is full: the oldest exchanges were dropped ({session.dropped})")
    with closing(pieces):
        for piece in pieces:
            write(piece)
    write("\n")
