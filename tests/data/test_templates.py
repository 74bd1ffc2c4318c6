"""Prompts: every template and answer format word by word, and shortening that never touches options or answer."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_adapter.core.errors import UserError
from mm_adapter.data.encoding import count_shortened, encode_question, encode_questions
from mm_adapter.data.question import Question
from mm_adapter.data.templates import EXPLANATIONS, LETTERS, Frame, Prompting, make_template

ASKED = Question(
    pid="7",
    question=" Which has feathers? ",
    options=("cat", " hen "),
    answer=1,
    context="Look at the animals. ",
    lecture="Birds have feathers. ",
    solution="A hen is a bird.",
)
BARE = Question(pid="8", question="Why?", options=("a", "b", "c"), answer=0)


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


def full(question: Question, **how: str) -> str:
    prompt = make_template(**({"name": "QCM-A", "answer_format": "letter"} | how)).render(question)
    return prompt.before + prompt.context + prompt.after


def test_the_papers_order() -> None:
    """Question, context, lettered options, answer."""
    assert full(ASKED) == (
        "Question: Which has feathers?\nContext: Look at the animals.\nOptions: (A) cat (B) hen\nAnswer:"
    )


@pytest.mark.parametrize("answer_format", ["letter", "text"])
def test_options_are_listed_without_surrounding_space(answer_format: str) -> None:
    """Options read the same wherever they stand."""
    assert "(A) cat (B) hen\n" in full(ASKED, answer_format=answer_format)


def test_without_options() -> None:
    """QC-A leaves the options to the answers alone."""
    assert full(ASKED, name="QC-A", answer_format="text") == (
        "Question: Which has feathers?\nContext: Look at the animals.\nAnswer:"
    )


@pytest.mark.parametrize("context", ["", "  \n "])
def test_empty_context_leaves_no_trace(context: str) -> None:
    """No empty line where a question has no context."""
    asked = Question(pid="8", question="Why?", options=("a", "b", "c"), answer=0, context=context)
    assert full(asked) == "Question: Why?\nOptions: (A) a (B) b (C) c\nAnswer:"


def test_answers() -> None:
    """Letters are said as the paper says them, texts in the option's own words; both follow a space."""
    assert make_template("QCM-A", "letter").render(ASKED).answers == (" The answer is A.", " The answer is B.")
    assert make_template("QC-A", "text").render(ASKED).answers == (" cat", " hen")


@pytest.mark.parametrize("explanation", EXPLANATIONS)
@pytest.mark.parametrize(("name", "answer_format"), [("QCM-A", "letter"), ("QCM-A", "text"), ("QC-A", "text")])
def test_explanations(name: str, answer_format: str, explanation: str) -> None:
    """The explanation follows the answer, never the prompt; a question without one has none."""
    template = make_template(name, answer_format, explanation)
    expected = {
        "none": "",
        "solution": " BECAUSE: A hen is a bird.",
        "lecture-solution": " BECAUSE: Birds have feathers. A hen is a bird.",
    }
    prompt = template.render(ASKED)
    assert prompt.explanation == expected[explanation]
    assert "bird" not in (prompt.before + prompt.context + prompt.after).lower()
    assert template.render(BARE).explanation == ""


def test_the_answer_is_not_in_the_prompt() -> None:
    """Nothing of the prompt depends on which option is right."""
    other = Question(**{**vars(ASKED), "answer": 0})
    assert full(ASKED) == full(other)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (("QCM-B", "letter", "none"), "did you mean 'QCM-A'"),
        (("QCM-A", "letters", "none"), "did you mean 'letter'"),
        (("QCM-A", "letter", "lecture"), "explanation 'lecture'"),
        (("QC-A", "letter", "none"), "cannot be a letter"),
    ],
)
def test_unknown_names(how: tuple[str, str, str], message: str) -> None:
    """A typo is answered with what there is."""
    with pytest.raises(UserError, match=message):
        make_template(*how)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"ranking": "max"}, "mean and sum"), ({"max_length": 15}, "no room"), ({"template": "X"}, "template")],
)
def test_prompting_checks_itself(changes: dict[str, Any], message: str) -> None:
    """A way of asking that cannot work is refused when it is made."""
    with pytest.raises(UserError, match=message):
        Prompting(**changes)
    assert Prompting().make_template() == make_template("QC-A", "text")


def test_more_options_than_letters() -> None:
    """The alphabet ends."""
    options = tuple(f"o{index}" for index in range(len(LETTERS) + 1))
    with pytest.raises(UserError, match="question 9: 27 options"):
        make_template("QCM-A", "letter").render(Question(pid="9", question="?", options=options, answer=0))


def test_encoding_spells_the_prompt() -> None:
    """Prefix, options and tail are the prompt's text, with begin and end where they belong."""
    tokenizer = Letters()
    encoded = encode_question(ASKED, make_template("QCM-A", "text", "solution"), tokenizer, 400)
    assert encoded.prefix[0] == tokenizer.begin[0]
    assert tokenizer.decode(encoded.prefix) == full(ASKED, answer_format="text")
    assert [tokenizer.decode(option) for option in encoded.options] == [" cat", " hen"]
    assert tokenizer.decode(encoded.tail) == " BECAUSE: A hen is a bird."
    assert encoded.tail[-1] == tokenizer.end
    assert encoded.dropped == 0
    assert encoded.length == len(encoded.prefix) + 8 + len(encoded.tail)


@settings(deadline=None)
@given(
    context=st.text("abc \n", max_size=200),
    options=st.lists(st.text("xyz", min_size=1, max_size=12), min_size=2, max_size=5),
    max_length=st.integers(90, 200),
    template=st.sampled_from([("QCM-A", "letter"), ("QCM-A", "text"), ("QC-A", "text")]),
)
def test_shortening_touches_the_context_alone(
    context: str, options: list[str], max_length: int, template: tuple[str, str]
) -> None:
    """Whatever is cut is the beginning of the context; it is counted, no more than needed, and the rest stands."""
    asked = Question(pid="1", question="Which?", options=tuple(options), answer=0, context=context)
    tokenizer, made = Letters(), make_template(*template)
    needed = encode_question(Question(**{**vars(asked), "context": ""}), made, tokenizer, 10_000)
    longest = max(map(len, needed.options))
    separator = 1 if context.strip() else 0
    smallest = len(needed.prefix) + longest + len(needed.tail) + separator
    if smallest > max_length:
        with pytest.raises(UserError, match=f"needs {smallest} tokens without any context, the limit is {max_length}"):
            encode_question(asked, made, tokenizer, max_length)
        return
    encoded = encode_question(asked, made, tokenizer, max_length)
    uncut = encode_question(asked, made, tokenizer, 10_000)
    prompt = made.render(asked)
    assert encoded.options == uncut.options
    assert encoded.tail == uncut.tail
    assert tokenizer.decode(encoded.prefix) == prompt.before + prompt.context[encoded.dropped :] + prompt.after
    total = len(encoded.prefix) + longest + len(encoded.tail)
    assert total <= max_length
    assert encoded.dropped == 0 or total == max_length


def test_context_first() -> None:
    """CQ-A and CQM-A put the context before the question; without context the question comes first."""
    how = {"answer_format": "text"}
    assert full(ASKED, name="CQ-A", **how) == ("Context: Look at the animals.\nQuestion: Which has feathers?\nAnswer:")
    assert full(ASKED, name="CQM-A", **how) == (
        "Context: Look at the animals.\nQuestion: Which has feathers?\nOptions: (A) cat (B) hen\nAnswer:"
    )
    assert full(BARE, name="CQ-A", **how) == "Question: Why?\nAnswer:"


@pytest.mark.parametrize("spaced", [False, True])
def test_a_chat_frame_stands_in_for_labels(spaced: bool) -> None:
    """In a chat format the roles say what is question and what is answer; its ids stand around the request."""
    frame = Frame((7, 8), (9,), spaced)
    spelled = {
        "QC-A": "Which has feathers?\nLook at the animals.",
        "CQ-A": "Look at the animals.\nWhich has feathers?",
        "QCM-A": "Which has feathers?\nLook at the animals.\nOptions: (A) cat (B) hen",
        "CQM-A": "Look at the animals.\nWhich has feathers?\nOptions: (A) cat (B) hen",
    }
    for name, text in spelled.items():
        encoded = encode_question(ASKED, make_template(name, "text", frame=frame), Letters(), 200)
        assert encoded.prefix == (7, 8, *Letters().encode(text), 9)
        assert (
            [Letters().decode(option) for option in encoded.options] == [" cat", " hen"] if spaced else ["cat", "hen"]
        )
        bare = encode_question(BARE, make_template(name, "text", frame=frame), Letters(), 200)
        listed = "\nOptions: (A) a (B) b (C) c" if "M" in name else ""
        assert bare.prefix == (7, 8, *Letters().encode("Why?" + listed), 9)


def test_the_end_of_sequence_can_be_part_of_every_option() -> None:
    """With score_end each option ends with the end token, which then stands nowhere else; the question is the same."""
    open_ended, closed = (
        encode_question(BARE, make_template("QC-A", "text", score_end=score_end), Letters(), 200)
        for score_end in (False, True)
    )
    assert closed.options == tuple((*option, Letters.end) for option in open_ended.options)
    assert (closed.prefix, closed.tail, open_ended.tail) == (open_ended.prefix, (), (Letters.end,))
    with pytest.raises(UserError, match="choose one of both"):
        make_template("QC-A", "text", "solution", score_end=True)


def test_a_scored_end_counts_towards_the_limit() -> None:
    """A question fits exactly, or not at all, whichever way its end is counted."""
    for score_end in (False, True):
        template = make_template("QC-A", "text", score_end=score_end)
        encoded = encode_question(BARE, template, Letters(), 200)
        size = len(encoded.prefix) + max(map(len, encoded.options)) + len(encoded.tail)
        assert encode_question(BARE, template, Letters(), size) == encoded
        with pytest.raises(UserError, match="without any context"):
            encode_question(BARE, template, Letters(), size - 1)


def test_long_explanations_are_cut() -> None:
    """An explanation has a limit of its own; the end of sequence stays."""
    made = make_template("QC-A", "text", "solution")
    asked = Question(**{**vars(ASKED), "solution": "x" * 500})
    encoded = encode_question(asked, made, Letters(), 400, explanation_length=20)
    assert len(encoded.tail) == 21
    assert encoded.tail[-1] == 2


def test_questions_that_do_not_fit() -> None:
    """One that does not fit stops the run by pid, or is returned with its reason; shortened ones are counted."""
    long = Question(pid="long", question="q" * 300, options=("a", "b"), answer=0)
    wordy = Question(pid="wordy", question="Why?", options=("a", "b"), answer=0, context="c" * 300)
    made = make_template("QC-A", "text")
    with pytest.raises(UserError, match=r"question long: .*--skip-bad"):
        encode_questions([BARE, long], made, Letters(), 100)
    encoded, bad = encode_questions([BARE, long, wordy], made, Letters(), 100, skip_bad=True)
    assert [item.question.pid for item in encoded] == ["8", "wordy"]
    assert list(bad) == ["long"]
    assert count_shortened(encoded) == 1


def test_the_explanation_never_changes_what_is_asked() -> None:
    """What only training may see yields to the question: the prompt is the same for any solution."""
    asked = Question("1", "Why?", ("yes", "no"), 0, context="word " * 80)
    template = make_template("QC-A", "text", "solution")
    lengths = []
    for solution in ("", "short", "long " * 60):
        encoded = encode_question(replace(asked, solution=solution), template, Letters(), 300)
        assert encoded.prefix == encode_question(asked, template, Letters(), 300).prefix
        assert len(encoded.prefix) + max(map(len, encoded.options)) + len(encoded.tail) <= 300
        assert encoded.tail[-1] == Letters.end
        lengths.append(len(encoded.tail))
    assert lengths[0] == 1


@pytest.mark.parametrize(
    "changed",
    [{"chat": [4]}, {"chat": None}, {"template": 3}, {"score_end": "no"}, {"max_length": 1.5}, {"ranking": {}}],
    ids=str,
)
def test_a_damaged_prompting_names_its_field(changed: dict[str, Any]) -> None:
    """As the file of an adapter may hold it."""
    with pytest.raises(UserError, match=next(iter(changed))):
        Prompting(**changed)
