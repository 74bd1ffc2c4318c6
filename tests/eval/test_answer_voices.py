"""What merely ends in an option's words, what others say and what tags set apart is no answer."""

import time

import pytest
from answer_voices import FIGURES, HELD_BACK, NOT_READ, SENTENCES, VOICES, texts
from hypothesis import given
from hypothesis import strategies as st

from mm_adapter.eval.parsing import parse_choice, read_choice

CASES = [
    (question, options, choice, text)
    for question, options, choice, packed in (*SENTENCES, *(("", *voice) for voice in VOICES), *HELD_BACK)
    for text in texts(packed)
]


@pytest.mark.parametrize(("question", "options", "choice", "text"), CASES)
def test_texts_are_read_as_a_person_would(question: str, options: tuple[str, ...], choice: int, text: str) -> None:
    assert parse_choice(text, options, question) == (-1 if text in NOT_READ else choice)


def test_readings_that_are_missed_are_few() -> None:
    assert len(NOT_READ) <= 0.03 * len(CASES)
    assert set(NOT_READ) <= {text for *_, text in CASES}


def test_the_question_tells_what_a_sentence_speaks_of() -> None:
    """The same sentence answers one question and not another."""
    for thing, other in (("box", "ball"), ("flower", "leaf"), ("hat", "bird")):
        text = f"The {thing} is blue."
        assert read_choice(text, ("red", "blue"), f"What colour is the {thing}?") == (1, "sentence")
        assert read_choice(text, ("red", "blue"), f"What colour is the {other}?") == (-1, "")
        assert read_choice(text, ("red", "blue")) == (-1, "")


NAMES = st.from_regex(r"[a-z]{2,6}[_-](?:plan|notes|steps?|work|draft|check)", fullmatch=True)
SAID = st.sampled_from(["A", "The answer is A.", "So it's A", "\\boxed{A}", "A. chiasmus", "<answer>A</answer>"])


@given(NAMES, SAID)
def test_a_tag_of_any_name_sets_its_content_apart(name: str, said: str) -> None:
    """Closed, begun in the prompt, within another, or never closed."""
    assert parse_choice(f"<{name}>{said}</{name}>\nB", FIGURES) == 1
    assert parse_choice(f"{said}</{name}>\nB", FIGURES) == 1
    assert parse_choice(f"<{name}><x-{name}>{said}</x-{name}>{said}</{name}>The answer is B.", FIGURES) == 1
    assert parse_choice(f"<{name}>{said}", FIGURES) == -1
    assert parse_choice(f"<{name}><x-{name}>B</x-{name}>{said}", FIGURES) == -1


SPEAKERS = st.sampled_from(
    ["Teacher", "STUDENT", "Anna", "Mr. Hill", "Person A", "**Student**", "[Judge]", "Speaker 2"]
)


@given(
    SPEAKERS, SPEAKERS, st.sampled_from([" ", "\n", "\n\n"]), st.sampled_from(["The answer is B.", "It's B.", "(B)"])
)
def test_what_a_speaker_says_is_not_the_models_answer(first: str, second: str, joint: str, said: str) -> None:
    assert parse_choice(f"{first}: {said}", FIGURES) == -1
    assert parse_choice(f"{first}: Which one is it?{joint}{second}: {said}", FIGURES) == -1
    assert parse_choice(f"{first}: Is it A or C?{joint}{second}: No.\nFinal answer: B", FIGURES) == 1


def test_long_texts_of_these_kinds_take_no_long_time() -> None:
    pieces = (
        "<plan>",
        "</plan>",
        "<a1 b=c ",
        "Teacher: ",
        "- ",
        "- a?\n",
        ", said ",
        "<s>",
        "<s>a</s>",
        "User: ",
        "[a]",
    )
    started = time.monotonic()
    for piece in (*pieces, "Anna: a\n", "A: a, ", "the sky is ", "[INST] a [/INST]", "the a, ", "Q: a\n"):
        assert parse_choice(piece * 10_000 + "The sky is blue", ("red", "blue"), piece * 2_000) == -1
    assert time.monotonic() - started < 30
