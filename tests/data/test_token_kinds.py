"""Tokens are told apart by what they belong to, in every template."""

import pytest

from mm_adapter.core.errors import UserError
from mm_adapter.data.encoding import encode_question
from mm_adapter.data.question import Question
from mm_adapter.data.templates import Frame, QuestionTemplate, make_template
from mm_adapter.data.token_kinds import token_kinds

QUESTION = Question("q", "Which one?", ("red", "green"), 1, context="A hint of two.")


class Bytes:
    """A tokenizer of one token a byte."""

    begin, end = (1,), 2
    controls = ()

    def encode(self, text):
        return list(text.encode())

    encode_continuation = encode


def pieces(template, question=QUESTION, max_length=500):
    """Return kind -> its text, and the kinds in order."""
    encoded = encode_question(question, template, Bytes(), max_length)
    kinds = token_kinds(encoded, template, Bytes())
    tokens = [*encoded.prefix, *(token for option in encoded.options for token in option)]
    assert len(kinds) == len(tokens)
    found = {}
    for token, kind in zip(tokens, kinds, strict=True):
        found[kind] = found.get(kind, "") + chr(token)
    return found


@pytest.mark.parametrize("name", ["QCM-A", "CQM-A"])
def test_pieces_are_their_texts(name):
    """Every kind has its own words and no other's, whichever comes first."""
    found = pieces(make_template(name, "text"))
    assert found["question"].strip() == "Question: Which one?"
    assert found["context"].strip() == "Context: A hint of two."
    assert found["options"] == "Options: (A) red (B) green"
    assert found["frame"].strip("\x01\n") == "Answer:"
    assert found["answer"] == " red green"


def test_options_that_are_not_listed_have_no_tokens():
    """QC-A: no listed options; without a context none of it either."""
    found = pieces(make_template("QC-A", "text"), Question("q", "Which one?", ("red", "green"), 1))
    assert set(found) == {"frame", "question", "answer"}


def test_a_chat_format_is_frame():
    """Tokens of the format stand around the request; no words ask for an answer."""
    template = make_template("CQ-A", "text", frame=Frame((3, 4), (5,)))
    found = pieces(template)
    assert found["frame"] == "\x03\x04\x05"
    assert found["question"].strip() == "Which one?"
    assert found["answer"] == "redgreen"


def test_a_shortened_context_has_fewer_tokens():
    """What was cut is counted nowhere."""
    long = Question("q", "Which one?", ("red", "green"), 1, context="word " * 50)
    found = pieces(make_template("QCM-A", "text"), long, max_length=100)
    assert 0 < len(found["context"]) < 60
    assert found["question"].strip() == "Question: Which one?"


def test_labels_can_be_renamed():
    """Listed and answered alike; there must be one for every option."""
    template = QuestionTemplate(labels=("1", "2"))
    prompt = template.render(QUESTION)
    assert "Options: (1) red (2) green" in prompt.after
    assert prompt.answers == (" The answer is 1.", " The answer is 2.")
    with pytest.raises(UserError, match="at most 1"):
        QuestionTemplate(labels="A").render(QUESTION)
