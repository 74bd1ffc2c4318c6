"""An answer is read by rules or not at all: nothing is guessed."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_adapter.eval.parsing import parse_choice, read_choice

OPTIONS = ("chiasmus", "apostrophe", "simile")


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("B", 1),
        ("b", 1),
        ("(B)", 1),
        ("B.", 1),
        ("B)", 1),
        ("**B**", 1),
        (" B \n", 1),
        ("apostrophe", 1),
        ("Apostrophe.", 1),
        ("B. apostrophe", 1),
        ("(B) apostrophe.", 1),
        ("B: apostrophe", 1),
        ("The answer is B", 1),
        ("The answer is B.", 1),
        ("The answer is (B).", 1),
        ("The answer is: B", 1),
        ("The answer is B. BECAUSE: A is another figure of speech.", 1),
        ("The answer is A because the parts are reversed.", 0),
        ("The answer is apostrophe.", 1),
        ("The correct answer is **C**.", 2),
        ("Answer: B", 1),
        ("Answer: C\nThe parts are compared.", 2),
        ("The parts are compared. So the answer is C.", 2),
        ("Therefore, the final answer is C!", 2),
        ("Answer: the answer is C", 2),
    ],
)
def test_answer_that_the_rules_read(text: str, choice: int) -> None:
    assert parse_choice(text, OPTIONS) == choice


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "D",
        "The answer is D.",
        "BA",
        "A B",
        "A or B",
        "A, B",
        "A and B are both right.",
        "The answer is A or B.",
        "The answer is A. or B.",
        "The answer is (A) or (B).",
        "The answer is A. So the answer is B.",
        "The answer is not B.",
        "The answer is a figure of speech.",
        "I doubt that the answer is B.",
        "If it compares, the answer is C.",
        "It could be apostrophe",
        "chiasmus apostrophe",
        "A. apostrophe",
        "B) is wrong",
        "A poem",
        "The answer is 1.",
        "K",  # the Kelvin sign, which matches k without regard to case
        "42",
    ],
)
def test_answer_that_is_not_clear_is_not_guessed(text: str) -> None:
    assert parse_choice(text, OPTIONS) == -1


@pytest.mark.parametrize(
    ("text", "options", "choice"),
    [
        ("Dear Aiden,", ("Dear Aiden,", "dear Aiden,"), 0),
        ("dear Aiden,", ("Dear Aiden,", "dear Aiden,"), 1),
        ("DEAR AIDEN,", ("Dear Aiden,", "dear Aiden,"), -1),
        ("Ff", ("FF", "ff", "Ff"), 2),
        ("yes", ("yes", "yes"), -1),
        ("B", ("A", "B"), 1),
        ("B", ("B", "A"), -1),  # the letter of one option is the words of another
        ("It has: water, soil", ("It has:\nwater, soil", "It has:\nsand"), 0),
    ],
)
def test_words_of_options_that_are_much_alike(text: str, options: tuple[str, ...], choice: int) -> None:
    assert parse_choice(text, options) == choice


WORDS = st.text(string.ascii_letters + string.digits + " .,:;()\n*-é", min_size=1, max_size=12)
ANY_OPTIONS = st.lists(WORDS, min_size=2, max_size=5)
SENTENCES = st.lists(
    st.sampled_from(
        ["The answer is ", "Answer: ", "A", "B", "E", "Z", ". ", "\n", " or ", "(", ")", "**", "no", "yes"]
    ),
    max_size=10,
).map("".join)


@given(st.one_of(st.text(), SENTENCES, WORDS), ANY_OPTIONS)
def test_choice_is_always_an_option_or_none(text: str, options: list[str]) -> None:
    assert -1 <= parse_choice(text, options) < len(options)


@given(ANY_OPTIONS, st.data())
def test_text_that_names_no_letter_and_no_option_is_never_an_answer(options: list[str], data: st.DataObject) -> None:
    text = data.draw(st.text("0123456789 !?", max_size=20).filter(lambda text: not text.strip().isdigit()))
    if all(" ".join(text.split()) != " ".join(option.replace("**", "").split()) for option in options):
        assert parse_choice(text, options) == -1


@given(st.lists(st.text("abc :", min_size=1), min_size=1, max_size=12), st.integers(0, 99))
def test_a_number_alone_counts_options_that_have_no_numbers(options: list[str], number: int) -> None:
    assert parse_choice(f" {number}\n", options) == (number if number < len(options) else -1)


@given(st.integers(2, 5), st.data())
def test_two_different_letters_are_never_an_answer(count: int, data: st.DataObject) -> None:
    first, second = data.draw(st.permutations(range(count)))[:2]
    options = [f"option {number}" for number in range(count)]
    a, b = "ABCDE"[first], "ABCDE"[second]
    for text in (f"The answer is {a}. The answer is {b}.", f"{a} {b}", f"{a}. option {second}", f"Answer: {a}, {b}"):
        assert parse_choice(text, options) == -1


@given(st.integers(2, 26), st.data())
def test_every_letter_within_the_options_is_read(count: int, data: st.DataObject) -> None:
    choice = data.draw(st.integers(0, 25))
    letter = string.ascii_uppercase[choice]
    options = [f"option {number}" for number in range(count)]
    expected = choice if choice < count else -1
    for text in (letter, f"({letter})", f"The answer is {letter}.", f"Answer: {letter}"):
        assert parse_choice(text, options) == expected


def test_long_texts_take_no_long_time() -> None:
    pieces = (
        " ",
        "\n",
        "the answer is ",
        "so, the ",
        "A. ",
        "(",
        "answer: a\n",
        "<b>",
        "\\boxed{",
        "<think>",
        '{"answer":',
    )
    for piece in (*pieces, "wait, ", "apostrophe, ", "the answer to ", "$", "_a ", "A or "):
        assert parse_choice(piece * 20_000 + "!", OPTIONS) in (-1, 0)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("(B)", "letter"),
        ("Apostrophe.", "words"),
        ("B. apostrophe", "letter and words"),
        ("So the answer is B.", "answer is"),
        ("The answer is apostrophe", "answer is words"),
        ("1", "index"),
    ],
)
def test_the_rule_that_matched_is_told(text: str, rule: str) -> None:
    assert read_choice(text, OPTIONS) == (1, rule)


def test_a_number_is_no_index_where_options_are_numbers() -> None:
    """ "2" is the second of 1, 2 and 4 by its words; it must not mean the third as well."""
    assert read_choice("2", ("1", "2", "4")) == (1, "words")
    assert read_choice("0", ("1 metre", "2 metres")) == (-1, "")
    assert read_choice("7", OPTIONS) == (-1, "")


@pytest.mark.parametrize(
    "text",
    [
        "The answer is A. apostrophe",
        "The answer is A: apostrophe",
        "The answer is A; B",
        "The answer is A\nor B",
        "The answer is A: no, B",
        "The answer is A.\nNo, B.",
        "The answer is A. However, B is right.",
    ],
)
def test_second_thoughts_are_no_answer(text: str) -> None:
    """What names a letter and then something else names nothing."""
    assert read_choice(text, OPTIONS) == (-1, "")


def test_long_texts_take_no_time() -> None:
    """A text that begins its answer ever anew, beside options of a page: seconds, not hours."""
    assert read_choice("Answer: " * 20_000, ("x" * 100_000, "y" * 100_000)) == (-1, "")
