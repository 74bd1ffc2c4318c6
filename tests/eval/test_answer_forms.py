"""Answers are read as a person reads them, in every form that models write, and never as another option."""

import re
import string

import pytest
from answer_forms import NAMES_B, NAMES_NONE, OPTIONS
from hypothesis import given
from hypothesis import strategies as st

from mm_adapter.eval.answer_text import own_answer
from mm_adapter.eval.parsing import read_choice


@pytest.mark.parametrize("text", NAMES_B)
def test_one_option_that_is_plainly_named(text: str) -> None:
    choice, rule = read_choice(text, OPTIONS)
    assert (choice, bool(rule)) == (1, True)


@pytest.mark.parametrize("text", NAMES_NONE)
def test_what_answers_nothing_or_two_things(text: str) -> None:
    assert read_choice(text, OPTIONS) == (-1, "")


@pytest.mark.parametrize(
    "text",
    [
        "(A) ✗ (B) ✓ (C) ✗",
        "A) ❌",
        "A: 0.1\nB: 0.8\nC: 0.1",
        "A. 10%, B. 90%",
        "A. This is wrong. B. This is right.",
        "A. This option does not match the text.",
        "A. Ruled out.",
        "A. I am not sure.",
        "I disagree that the answer is A.",
        "It is a common misconception that the answer is A.",
        "不能选B",
        "我不认为答案是B",
        "<|START_THINKING|>The answer is B",
    ],
)
def test_a_verdict_on_an_option_or_a_view_that_is_not_held_is_no_answer(text: str) -> None:
    assert read_choice(text, OPTIONS) == (-1, "")


@pytest.mark.parametrize(
    "text", ["应该选B", "只能选B", "不是A,所以答案是B", "B. This is correct.", "<|START_THINKING|>A?<|END_THINKING|>B"]
)
def test_what_stands_beside_such_a_verdict_is_read(text: str) -> None:
    assert read_choice(text, OPTIONS)[0] == 1


@pytest.mark.parametrize(
    ("text", "options", "choice"),
    [
        ("A plant", ("water", "a plant", "sunlight"), 1),
        ("A plant needs water.", ("water", "a plant", "sunlight"), -1),
        ("The answer is a plant.", ("rock", "plant"), 1),
        ("The answer is A plant.", ("rock", "plant"), -1),
        ("The answer is A.", ("rock", "plant"), 0),
        ("The answer is A rock needs water.", ("A plant needs water.", "A rock needs water."), 1),
        ("The answer is the plant and the soil.", ("the plant", "the plant and the soil", "the soil"), 1),
        ("The answer is the plant.", ("the plant", "the plant and the soil", "the soil"), 0),
        ("the plant, the soil", ("the plant", "the plant and the soil", "the soil"), -1),
        ("No. It is a solid.", ("yes", "no"), 1),
        ("yes and no", ("yes", "no"), -1),
        ("No, wait. The answer is A.", ("yes", "no"), 0),
        ("The answer is 5.", ("2", "3", "5", "8"), 2),
        ("The answer is 35.", ("2", "3", "5", "8"), -1),
        ("-5", ("2", "3", "5", "8"), -1),
        ("2. The picture shows 5.", ("2", "3", "5", "8"), -1),
        ("A. 5°C", ("-5°C", "5°C"), -1),
        ("The answer is (A) -5°C", ("-5°C", "5°C"), 0),
        ("$5 or $6", ("$5", "$6"), -1),
        ("A", ("B", "A", "C"), -1),
        ("(C) C", ("B", "A", "C"), 2),
        ("The answer is g.", ("G", "g"), 1),
        ("The answer is capitalism, not communism.", ("capitalism", "communism"), 0),
        ("The answer is DEAR SIR,", ("Dear Sir,", "dear Sir,"), -1),
        ("A. DEAR SIR,", ("Dear Sir,", "dear Sir,"), 0),
        ('"The Poem"', ('"The Poem"', "*The Poem*", "The Poem"), 0),
        ("*The Poem*", ('"The Poem"', "*The Poem*", "The Poem"), 1),
        ('The answer is "The Poem".', ('"The Poem"', "*The Poem*", "The Poem"), -1),
        ("None of the above", ("all of these", "none of these"), -1),
        ("I think so.", tuple(f"word {number}" for number in range(9)), -1),
    ],
)
def test_options_that_are_letters_numbers_or_much_alike(text: str, options: tuple[str, ...], choice: int) -> None:
    assert read_choice(text, options)[0] == choice


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("\ufeffB", "B"),
        ("<think>A</think>\n\nB", "B"),
        ("A</think>B", "B"),
        ("<think>A", ""),
        ("C <THINKING>A", "C"),
        ("[THINK]A[/THINK]B", "B"),
        ("◁think▷A◁/think▷B", "B"),
        ("&lt;think&gt;A&lt;/think&gt;B", "B"),
        ("<|begin_of_thought|>A<|end_of_thought|>B", "B"),
        ("<|channel|>analysis<|message|>A<|end|><|start|>assistant<|channel|>final<|message|>B<|return|>", "B"),
        ("<|channel|>analysis<|message|>A", ""),
        ("<|im_start|>user\nA?<|im_end|>\n<|im_start|>assistant\nB<|im_end|>", "B"),
        ("<|start_header_id|>assistant<|end_header_id|>\n\nB<|eot_id|>", "B"),
        ("<start_of_turn>model\nB<end_of_turn>", "B"),
        ("[INST] A? [/INST] B</s>", "B"),
        ("B</s>A", "B"),
        ("ASSISTANT: B\nUSER: A", "B"),
        ("### Response:\nB\n\n### Instruction:\nA", "B\n"),
        ("Ｂ）", "B)"),
    ],
)
def test_what_is_no_answer_is_taken_off(text: str, answer: str) -> None:
    """Reasoning, closed or cut off, special tokens and other turns: nothing in them may be read."""
    assert own_answer(text) == answer


WORDS = ("apple", "a pear", "the plum and the fig", "Cherries!", "two limes", "no fruit")
ANY_OPTIONS = st.lists(st.sampled_from(WORDS), min_size=2, max_size=5, unique=True)
ONE = (
    *("{L}", "({L})", "{l}.", "Option {L}", "{L}. {w}", "({L}) {w}", "{w}", "The answer is {L}.", "Answer:\n{L}"),
    *("The answer is ({L}) {w}", "I would choose {L}.", "{L} is correct.", "<answer>{L}</answer>", "\\boxed{{{L}}}"),
    *('{{"answer": "{L}"}}', "It is as shown.\n\n({L}) {w}", "{L}\nIt is as shown.", "So the answer is {w}"),
)
MARKUP = (
    *("{}", "**{}**", "<b>{}</b>", "<p>{}</p>", "{}</s>", "{}<|im_end|>", "Assistant: {}", "\ufeff{}", "  {}\n\n"),
    *("<think>It may be A, or B.</think>{}", "# {}", "> {}", "<s>{}</s>", "{}<|endoftext|>", "### Response:\n{}"),
)
LETTERS = string.ascii_uppercase


def written(form: str, options: list[str], index: int) -> str:
    return form.format(L=LETTERS[index], l=LETTERS[index].lower(), w=options[index])


@given(ANY_OPTIONS, st.sampled_from(ONE), st.sampled_from(MARKUP), st.data())
def test_every_form_names_its_option_in_any_markup(
    options: list[str], form: str, markup: str, data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(options) - 1))
    assert read_choice(markup.format(written(form, options, index)), options)[0] == index


@given(
    ANY_OPTIONS,
    st.tuples(st.sampled_from(ONE), st.sampled_from(ONE)),
    st.sampled_from([" or ", " and ", "\n", ". ", ", ", " / ", "\n\n", "; "]),
    st.data(),
)
def test_two_options_are_no_answer(options: list[str], forms: tuple[str, str], joint: str, data: st.DataObject) -> None:
    """Whichever forms name them and whatever stands between. "A or the answer is B" alone may be read, as B."""
    first, second = data.draw(st.permutations(range(len(options))))[:2]
    text = written(forms[0], options, first).rstrip(".") + joint + written(forms[1], options, second)
    alike = forms[0] == forms[1] and "\n" not in forms[0]
    allowed = (-1,) if alike or joint in ("\n", "\n\n") else (-1, first, second)
    assert read_choice(text, options)[0] in allowed


PIECES = st.lists(
    st.sampled_from(
        (
            *("The answer is ", "Answer: ", "so ", "not ", "I choose ", " is correct", " is wrong", "Wait, ", "No, "),
            *(
                "A",
                "B",
                "(B)",
                "C.",
                "apple",
                "a pear",
                ". ",
                "\n",
                " or ",
                ", ",
                "because ",
                "if ",
                "<think>",
                "</think>",
            ),
            *("\\boxed{A}", "<answer>B</answer>", "**", '"', "Final answer: ", "It is ", "?", "The picture shows "),
        )
    ),
    max_size=12,
).map("".join)


@given(PIECES)
def test_what_is_read_stands_in_the_text(text: str) -> None:
    """An option is chosen only where its letter or its words stand in what is no reasoning."""
    options = ("apple", "a pear", "two limes")
    choice, rule = read_choice(text, options)
    assert (choice == -1) == (rule == "")
    if choice >= 0:
        answer = own_answer(text)
        named = re.search(rf"(?<![A-Za-z]){LETTERS[choice]}(?![A-Za-z])", answer)
        assert named or options[choice].removeprefix("a ") in answer


@given(st.lists(st.sampled_from(("<think>", "</think>", "B", "\n", "The answer is B")), max_size=8))
def test_nothing_inside_reasoning_is_read(pieces: list[str]) -> None:
    """Behind an opening tag that nothing closes, no letter is an answer."""
    assert "A" not in own_answer("".join(pieces) + "<think>A")
    assert "A" not in own_answer("<think>A</think>" + "".join(pieces))
