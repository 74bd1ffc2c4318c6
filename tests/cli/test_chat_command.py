"""``mm-adapter chat``: lines in, answers out; interruptions and commands."""

import json
import sys

import pytest
from test_generate_command import Pipe

from mm_adapter import MultimodalLlama
from mm_adapter.cli.chat import converse
from mm_adapter.inference.chat_session import ChatSession
from mm_adapter.inference.generation import GenerationConfig

SHORT = ["--max-new-tokens", "6"]


@pytest.fixture
def base(tiny_folder):
    """Options of the base model."""
    return ["--adapter", "none", "--llama", str(tiny_folder), *SHORT]


def piped(monkeypatch, text):
    monkeypatch.setattr(sys, "stdin", Pipe(text))


def test_a_pipe_is_answered_line_by_line(command, base, tiny_folder, monkeypatch):
    """Answers alone come out; /reset begins anew, /quit ends, blank lines say nothing."""
    piped(monkeypatch, "Hello\n\nAgain\n/reset\nHello\n/quit\nnever\n")
    outcome = command("chat", *base)
    session = ChatSession(MultimodalLlama.from_pretrained(str(tiny_folder)), GenerationConfig(6))
    hello, again = ("".join(session.reply(text)) for text in ("Hello", "Again"))
    assert outcome.out == f"{hello}\n{again}\n{hello}\n"
    assert "begins anew" in outcome.err
    assert outcome.status == 0


def test_the_first_answer_is_that_of_generate(command, base, monkeypatch):
    """A conversation begins as a single request does."""
    piped(monkeypatch, "Hello\n")
    found = json.loads(command("generate", *base, "Hello", "--json").out)["text"]
    piped(monkeypatch, "Hello\n")
    assert command("chat", *base).out == found + "\n"


def test_a_full_context_is_told(command, base, monkeypatch):
    """The person learns how many exchanges were dropped; the answers go on."""
    piped(monkeypatch, "".join(f"Question {number} of many\n" for number in range(8)))
    outcome = command("chat", *base, "--context", "350")
    assert outcome.status == 0
    assert "the context is full: the oldest exchanges were dropped (" in outcome.err


def test_an_interrupted_answer_ends_alone(tiny_folder):
    """Ctrl-C ends the answer; the next line is answered."""
    session = ChatSession(MultimodalLlama.from_pretrained(str(tiny_folder)), GenerationConfig(6))
    written, said, left = [], [], [True]

    def write(piece):
        written.append(piece)
        if left:
            left.pop()
            raise KeyboardInterrupt

    converse(session, ["Hello", "Again"], write, said.append)
    assert said == ["interrupted"]
    assert written.count("\n") == 2
    assert len(session.exchanges) == 2


def test_an_interruption_before_the_answer(tiny_folder, monkeypatch):
    """Ctrl-C right after a line, while it is still being put into ids, forgets that line alone."""
    session = ChatSession(MultimodalLlama.from_pretrained(str(tiny_folder)), GenerationConfig(6))
    encode, left = session._encode, [True]

    def interrupted(*values):
        if left:
            left.pop()
            raise KeyboardInterrupt
        return encode(*values)

    monkeypatch.setattr(session, "_encode", interrupted)
    said = []
    converse(session, ["Hello", "Again"], lambda piece: None, said.append)
    assert said == ["interrupted"]
    assert [request.text for request, _ in session.exchanges] == ["Again"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/image nowhere.png", "takes no pictures"),
        ("/imge a.png", "did you mean '/image'"),
        ("/reset now", "is no command"),
        ("long " * 400, "Say less at once"),
    ],
)
def test_bad_lines(refused, base, tiny_folder, monkeypatch, line, said):
    """In a pipe they end the program with one message; a person is told, and goes on."""
    piped(monkeypatch, line + "\n")
    assert said in refused("chat", *base)
    session, told, written = ChatSession(MultimodalLlama.from_pretrained(str(tiny_folder)), GenerationConfig(3)), [], []
    converse(session, [line, "Hello"], written.append, told.append, patient=True)
    assert said in told[0]
    assert written


def test_bad_options(refused, base, monkeypatch):
    """Before the first line is read."""
    piped(monkeypatch, "Hello\n")
    assert "takes no pictures" in refused("chat", *base, "--image", "a.png")
    assert "context is 1" in refused("chat", *base, "--context", "1")
    assert "temperature is -1" in refused("chat", *base, "--temperature", "-1")


def test_another_picture(command, picture_run, demo_folder, monkeypatch):
    """/image shows a picture in the middle of a conversation."""
    picture = next((demo_folder / "images" / "test").glob("*/image.png"))
    piped(monkeypatch, f"Hello\n/image {picture}\nWhich?\n")
    outcome = command("chat", "--adapter", picture_run, *SHORT)
    assert outcome.status == 0
    assert f"the conversation is about {picture}" in outcome.err
