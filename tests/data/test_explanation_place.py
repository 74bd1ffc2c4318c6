"""Explanations before the answer: what is to be learned can be read again, and only the explanation is ever cut."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mm_adapter.core.errors import UserError
from mm_adapter.data.encoding import EncodedQuestion, encode_question
from mm_adapter.data.question import Question
from mm_adapter.data.templates import Frame, Prompting, make_template
from mm_adapter.eval.parsing import read_choice
from mm_adapter.llama import Llama
from mm_adapter.scoring.batching import collate
from mm_adapter.scoring.likelihoods import score_options

ASKED = Question("7", "Which?", ("cat", " hen "), 1, "Look. ", lecture="Birds have feathers. ", solution="A hen has.")


class Letters:
    """A tokenizer of one id per character."""

    begin = (1,)
    end = 2
    controls = ()

    def encode(self, text: str) -> list[int]:
        return [ord(letter) + 10 for letter in text]

    def encode_continuation(self, text: str) -> list[int]:
        return self.encode(text)

    def decode(self, ids: Any) -> str:
        return "".join(chr(index - 10) for index in ids if index > 9)


@pytest.mark.parametrize(
    ("answer_format", "explanation", "lead", "answer"),
    [
        ("letter", "solution", " A hen has.", "\nThe answer is B."),
        ("text", "solution", " A hen has.", "\nThe answer is hen"),
        ("letter", "lecture-solution", " Birds have feathers. A hen has.", "\nThe answer is B."),
    ],
)
def test_explanation_then_answer(answer_format: str, explanation: str, lead: str, answer: str) -> None:
    """QCM-EA and QCM-LEA word by word; nothing follows the answer."""
    prompt = make_template("QCM-A", answer_format, explanation, explanation_place="before").render(ASKED)
    assert (prompt.lead, prompt.answers[1], prompt.explanation) == (lead, answer, "")
    assert "hen has" not in prompt.before + prompt.context + prompt.after


def test_after_the_answer_is_as_it_was() -> None:
    """The default leaves every text of a prompt as it is without the choice."""
    prompt = make_template("QCM-A", "letter", "solution").render(ASKED)
    assert prompt.answers == (" The answer is A.", " The answer is B.")
    assert (prompt.lead, prompt.explanation) == ("", " BECAUSE: A hen has.")
    assert Prompting().explanation_place == "after"


def test_a_chat_format_keeps_the_order() -> None:
    """In a chat the explanation begins as any answer does."""
    frame = Frame((1, 9), (8,))
    template = make_template("QCM-A", "letter", "solution", frame=frame, explanation_place="before")
    assert template.render(ASKED).lead == "A hen has."


words = st.text("abcABC ,-'é", min_size=3, max_size=12).map(lambda text: " ".join(text.split()))
told = st.text("xyzXYZ .,!?;:\n'é", max_size=40)


@given(
    st.lists(words.filter(lambda text: len(text) > 2), min_size=2, max_size=5, unique=True),
    st.tuples(told, told),
    st.sampled_from(["letter", "text"]),
    st.sampled_from(["solution", "lecture-solution"]),
)
def test_targets_are_read_again(
    options: list[str], texts: tuple[str, str], answer_format: str, explanation: str
) -> None:
    """Whatever an explanation ends with, the answer behind it is read as what it is, for every option."""
    question = Question("1", "Why?", tuple(options), 0, lecture=texts[0], solution=texts[1])
    prompt = make_template("QCM-A", answer_format, explanation, explanation_place="before").render(question)
    for index, answer in enumerate(prompt.answers):
        assert read_choice(prompt.lead + answer, options)[0] == index


@given(st.integers(0, 80), st.booleans())
def test_only_the_explanation_is_cut(size: int, score_end: bool) -> None:
    """A long solution loses its end; the question, the options and the end of sequence are the same for any."""
    template = make_template("QCM-A", "letter", "solution", score_end, explanation_place="before")
    plain = encode_question(replace(ASKED, solution=""), template, Letters(), 120)
    encoded = encode_question(replace(ASKED, solution="x" * size), template, Letters(), 120, explanation_length=60)
    assert (encoded.prefix, encoded.options, encoded.tail) == (plain.prefix, plain.options, plain.tail)
    assert len(encoded.prefix) + len(encoded.lead) + max(map(len, encoded.options)) + len(encoded.tail) <= 120
    room = 120 - len(plain.prefix) - max(map(len, plain.options)) - len(plain.tail)
    whole = " " + "x" * size if size else ""
    assert Letters().decode(encoded.lead) == whole[: min(room, 60)]
    assert encoded.dropped == 0


def test_lead_is_learned_and_seen_by_every_option(tiny_llama: Llama) -> None:
    """The language-model loss is that of lead, right answer and tail in one plain sequence; options follow the lead."""
    question = replace(ASKED, pid="1")
    encoded = EncodedQuestion(question, (5, 6, 7), ((8, 9), (10, 11, 12)), (2,), lead=(20, 21, 22, 23))
    found = score_options(tiny_llama, collate([encoded]))
    whole = [5, 6, 7, 20, 21, 22, 23, 10, 11, 12, 2]
    likely = tiny_llama(torch.tensor([whole]))[0].log_softmax(dim=-1)
    each = torch.stack([likely[place - 1, whole[place]] for place in range(3, len(whole))])
    assert float(found.language_loss[0]) == pytest.approx(-float(each.mean()), abs=1e-5)
    assert float(found.log_likelihoods[1]) == pytest.approx(float(each[4:7].sum()), abs=1e-4)
    alone = score_options(tiny_llama, collate([encoded], with_tail=False))
    direct = score_options(tiny_llama, collate([replace(encoded, lead=())], with_tail=False))
    assert torch.equal(alone.log_likelihoods, direct.log_likelihoods), "what only training may see is scored with"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"explanation_place": "before"}, "needs an explanation"),
        ({"explanation": "solution", "explanation_place": "befor"}, "did you mean 'before'"),
    ],
)
def test_places_that_cannot_be(settings: dict[str, str], said: str) -> None:
    """A place without an explanation, or a typo, is refused when the prompting is made."""
    with pytest.raises(UserError, match=said):
        Prompting(**settings)  # type: ignore[arg-type]
