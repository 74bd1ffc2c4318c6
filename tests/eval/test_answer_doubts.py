"""What stands beside an answer counts: another option, a verdict, a second voice; and "not A but B" says B."""

import string

import check_answers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_adapter.eval.answer_text import own_answer
from mm_adapter.eval.parsing import parse_choice, read_choice

FIGURES = ("chiasmus", "apostrophe", "simile", "hyperbole")
COLOURS = ("red", "blue", "green", "yellow")
STATES = ("solid", "liquid", "gas")
TWO = ("yes", "no")

UNREAD: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        FIGURES,
        r"""
C⏎A: D ¦ B⏎A: C. simile ¦ C⏎⏎A: apostrophe ¦ A: (C) ¦ A: It's B ¦ A: The text uses an apostrophe.
A: It is a simile that compares. ¦ A: not simile ¦ C: This describes chiasmus, a reversal.
B. This describes a chiasmus, unlike the others. ¦ A: none ¦ A: I don't know ¦ B. None of the above
A: They speak to someone.⏎B: They compare. ¦ My answer: C. The expected answer: D ¦ My answer: A⏎Ground truth: B
Predicted: B, Actual: A ¦ Model answer: A. Reference answer: B ¦ 我的答案是A，标准答案是B ¦ Wrong answer: B
The student's answer: A ¦ Answer: B (incorrect) ¦ Answer: C - wrong ¦ The answer is B. False.
The answer is B. Just kidding. ¦ The answer is B, right? ¦ The answer is B, isn't it? ¦ <answer>B</answer> is wrong
Not \boxed{B} ¦ answer: B⏎correct: false ¦ Answer: C⏎Verdict: incorrect ¦ The answer is C, the second one.
B with 40% and C with 60% ¦ The answer is B with 40% and C with 60% ¦ B. Possibly C.
The answer is A when reversed, otherwise B. ¦ Let's go with A... hmm, B is better.
According to my friend, the answer is B ¦ Perhaps, the answer is B ¦ I was going to choose B
I once believed the answer is B ¦ not only A but B ¦ The answer is not A but B or C. ¦ It is not B but B
The answer is not A but close to B ¦ That leaves us with A or B ¦ If we eliminate A, that leaves us with B
It leaves B unexplained.
""",
    ),
    (
        FIGURES,
        r"""
the second option? ¦ not the second option ¦ the first or the second option ¦ the second option is wrong
second to last option ¦ the second best option ¦ My second choice is B ¦ The second option, C
C. The second option. ¦ the fifth option ¦ The third word is apostrophe ¦ Another name for it is simile
""",
    ),
    (
        FIGURES,
        r"""
Die Antwort ist nicht B. ¦ Er sagt, die Antwort ist B. ¦ Wenn es vergleicht, die Antwort ist C.
Ich bin nicht sicher, die Antwort ist B ¦ Antwort: A oder B ¦ Antwort: B, eventuell C ¦ A. Falsch. B. Richtig.
Falsche Antwort: B ¦ Ответ: A и B ¦ Неправильный ответ: B ¦ Неверный ответ: B ¦ Ответ: не B ¦ B. Неверно.
Если сравнивает, ответ: C ¦ Возможно, ответ: B ¦ Он сказал, что ответ: B ¦ 错误答案是B ¦ 错误的答案：B ¦ 他选B
很多人会选B ¦ 为什么选B ¦ 也许答案是B ¦ 如果是比较,答案是C ¦ 答案：B、C都对 ¦ 答案是B，不对，是C
答案不是A、B，而是C ¦ 不正解はB ¦ 不正解の答えはB ¦ もし比べるなら、答えはC ¦ 彼は答えはBです ¦ たぶん答えはBです
答えはAかBです ¦ 答えはBですか？ ¦ 答えはAです。いや、Bです。 ¦ Aが正しい。Bが正しい。 ¦ Bが正しいとは限らない
정답은 B가 아니라 A입니다 ¦ Si compara, la respuesta es C ¦ Respuesta: A y B
Antwort: B. Falsch. ¦ Antwort: B (falsch) ¦ Ответ: B. Неверно. ¦ Respuesta: B (incorrecta) ¦ Réponse : B (fausse)
答案：B（错误） ¦ 答案是B。错误。 ¦ 答案是B，这是错的 ¦ 答えはBです。違います。
答えはBです。間違いです。 ¦ 不该选B ¦ 候选B ¦ 备选答案是B
Answer: B⏎Alternative answer: C ¦ La réponse est A ou B.
""",
    ),
    (
        COLOURS,
        r"""
The colour is red. B ¦ The colour is red.⏎B ¦ It is red, so the answer is B. ¦ The ball is red, therefore B.
A. The colour is blue. ¦ The answer is A. The colour is blue. ¦ Option: A, Color: blue ¦ Color: red, Option: B
The answer is red, which is B. ¦ Red - B ¦ In the first picture the colour is red ¦ The other one is blue
The original colour is red ¦ The first one is blue ¦ The colour is red (B). ¦ {"answer": "A", "text": "blue"}
{"letter": "A", "answer_text": "blue"} ¦ The answer is not blue but B.
""",
    ),
    (
        STATES,
        r"""
The second state is gas ¦ The starting state is solid ¦ The only state missing is gas
""",
    ),
    (
        TWO,
        r"""
No, the answer is yes. ¦ Yes, it is. The answer is no. ¦ Another word for it is no
""",
    ),
)

READ: tuple[tuple[tuple[str, ...], int, str], ...] = (
    (
        FIGURES,
        1,
        r"""
The answer is not A but B. ¦ The answer is not C, but rather B ¦ Not A but B ¦ It isn't chiasmus but apostrophe.
B, not C ¦ apostrophe instead of simile ¦ Nicht A, sondern B ¦ AではなくB ¦ 答えはAではなくBです ¦ 不是A，而是B
答案不是A，而是B ¦ That leaves us with B ¦ This leaves only option B. ¦ We are left with apostrophe.
A is wrong, which leaves B ¦ By elimination, B ¦ A is wrong, C is wrong, so B ¦ the second option ¦ Second option.
the 2nd choice ¦ I choose the second option. ¦ The answer is the second option. ¦ The answer is the second one.
The second option is correct. ¦ The second option, apostrophe. ¦ The official answer is B. ¦ Expected answer: B
B: unlike a simile, it speaks to someone. ¦ B. It looks like a simile, but it is none. ¦ A: wrong⏎Answer: B
""",
    ),
    (
        FIGURES,
        1,
        r"""
Die Lösung ist B. ¦ Richtig ist B. ¦ B ist richtig. ¦ B ist die richtige Antwort. ¦ Ответ: B ¦ Ответ — B, а не A
Правильный ответ: B ¦ 答えはBです。 ¦ 正解：B ¦ Bが正解です ¦ 正解はBです。Aではありません。 ¦ 正确选项是B
B是正确的 ¦ 大多数人选A，但答案是B ¦ A和C都错了，答案是B ¦ 정답: B ¦ 정답은 B입니다
""",
    ),
    (
        COLOURS,
        0,
        r"""
The colour is red. A ¦ The colour is red (A). ¦ red = A ¦ red → A ¦ It is red, so the answer is A.
The answer is A, which is red. ¦ The answer is A. The ball is red. ¦ The first one is red
{"answer": "A", "text": "red"} ¦ The ball is red and the box is blue. The answer is A.
""",
    ),
    (
        STATES,
        2,
        r"""
The answer is C. Ice is solid, but steam is not. ¦ C. Glass A holds 20% salt and glass B holds 30%.
The answer is C. BECAUSE: Ice is solid. ¦ C⏎⏎Explanation: The second state is liquid.
""",
    ),
    (
        ("left", "right", "both"),
        0,
        r"""
Right, it's left. ¦ The right answer is left.
""",
    ),
    (
        TWO,
        1,
        r"""
No. B ¦ Correct: no ¦ No, the answer is no.
""",
    ),
)


def cases(packed: str) -> list[str]:
    """Return texts: one between bars; ⏎ is a line end."""
    return [text.strip().replace("⏎", "\n") for line in packed.strip().splitlines() for text in line.split("¦")]


@pytest.mark.parametrize(("options", "text"), [(options, text) for options, packed in UNREAD for text in cases(packed)])
def test_what_names_two_options_or_takes_its_answer_back(options: tuple[str, ...], text: str) -> None:
    assert read_choice(text, options) == (-1, "")


@pytest.mark.parametrize(
    ("options", "choice", "text"),
    [(options, choice, text) for options, choice, packed in READ for text in cases(packed)],
)
def test_what_a_person_reads_beside_it(options: tuple[str, ...], choice: int, text: str) -> None:
    assert read_choice(text, options)[0] == choice


MARKED_FALSE = (
    *(
        '{{"is_correct": false, "answer": "{L}"}}',
        '{{"answer": "{L}", "correct": "no"}}',
        "{{'answer': '{L}', 'valid': 0}}",
    ),
    *('{{"answer": "{L}", "wrong": true}}', '{{"result": {{"answer": "{L}"}}, "status": "incorrect"}}'),
)
MARKED_TRUE = (
    *(
        '{{"is_correct": true, "answer": "{L}"}}',
        '{{"answer": "{L}", "correct": 0.9}}',
        '{{"answer": "{L}", "final": false}}',
    ),
    *('{{"answer": "{L}", "wrong": false}}', '{{"tries": [{{"answer": "{M}", "correct": false}}], "answer": "{L}"}}'),
    '[{{"answer": "{M}", "correct": false}}, {{"answer": "{L}", "correct": true}}]',
)


@given(st.sampled_from(MARKED_FALSE), st.sampled_from(MARKED_TRUE), st.permutations(range(4)))
def test_an_answer_in_json_that_is_marked_as_false(false: str, true: str, order: list[int]) -> None:
    """The object that holds it says so, or one around it; what other objects say is of other answers."""
    letters = {"L": string.ascii_uppercase[order[0]], "M": string.ascii_uppercase[order[1]]}
    assert parse_choice(false.format(**letters), FIGURES) == -1
    assert parse_choice(true.format(**letters), FIGURES) == order[0]


NAMES = (
    "think",
    "thinking",
    "thought",
    "THINK",
    "reasoning",
    "inner_monologue",
    "chain_of_thought",
    "thinking_process",
)
BRACKETS = (("<", ">"), ("‹", "›"), ("◁", "▷"), ("⟨", "⟩"), ("&lt;", "&gt;"))


@given(st.sampled_from(NAMES), st.sampled_from(BRACKETS), st.sampled_from(["A", "The answer is A.", "So it's A"]))
def test_marks_of_reasoning_in_every_bracket(name: str, brackets: tuple[str, str], said: str) -> None:
    """Closed, never closed, or without the bracket behind the opening one."""
    opening, closing = f"{brackets[0]}{name}{brackets[1]}", f"{brackets[0]}/{name}{brackets[1]}"
    assert own_answer(f"{opening}\n{said}\n{closing}\nB").strip() == "B"
    assert own_answer(f"{said}{closing}B").strip() == "B"
    for open_mark in (opening, opening + "\n", f"{brackets[0]}{name}\n"):
        assert parse_choice(open_mark + said, FIGURES) == -1


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("[REASONING]A[/REASONING]B", "B"),
        ("[thought]\nA", ""),
        ("<unused94>thought\nA<unused95>B", "B"),
        ("<unused94>thought\nA", ""),
        ("```thinking\nA\n```\nB", "B"),
        ("```reasoning\nA", ""),
        ("<details><summary>Thinking</summary>A</details>B", "B"),
        ('<details type="reasoning" done="true">A</details>B', "B"),
        ("<details><summary>Answer</summary>B</details>", "<details><summary>"),
        ("Thinking...\nA?\n...done thinking.\n\nB", "B"),
        ("Thinking...\nA?", ""),
        ("<think id=1>A</think>B", "B"),
        ("«think»A«/think»B", "B"),
        ("«Thought» is B", "«Thought» is B"),
    ],
)
def test_other_ways_to_set_reasoning_apart(text: str, answer: str) -> None:
    found = own_answer(text).strip()
    assert found.startswith("<details>") if answer == "<details><summary>" else found == answer


FORMS_READ = {
    "not one but the other": "The answer is not {M} but {L}.",
    "left over": "{M} is wrong. That leaves us with {L}.",
    "by an ordinal": "The answer is the {nth} option.",
    "letter, sentence of its words": "{L}. The answer is {words}",
    "one is left, with words": "We are left with ({L}) {words}",
}
FORMS_UNREAD = {
    "another line as answer": "{L}\nA: {M}",
    "mine and the official one": "My answer: {L}. The official answer: {M}",
    "marked as false": '{{"answer": "{L}", "is_correct": false}}',
    "another ordinal": "{L}, the {mth} option.",
    "called wrong": "Answer: {L} (wrong)",
    "another in JSON": '{{"answer": "{L}", "text": "{other}"}}',
    "second share": "{L} (55%), {M} (45%)",
    "afterthought": "The answer is {L}. Possibly {M}.",
}


def drawn(forms: dict[str, str]) -> list[tuple[str, tuple[str, ...], int]]:
    """Return every form of every question of ``check_answers``."""
    texts, ordinals = [], ("first", "second", "third", "fourth", "fifth")
    for options, right in check_answers.QUESTIONS:
        for wrong in (place for place in range(len(options)) if place != right):
            fields = {"L": string.ascii_uppercase[right], "M": string.ascii_uppercase[wrong]}
            fields |= {"words": options[right], "other": options[wrong], "nth": ordinals[right], "mth": ordinals[wrong]}
            texts += [(form.format(**fields), options, right) for form in forms.values()]
    return texts


@pytest.mark.parametrize(("text", "options", "right"), drawn(FORMS_READ))
def test_forms_that_name_one_option_of_any_kind(text: str, options: tuple[str, ...], right: int) -> None:
    assert parse_choice(text, options) == right


@pytest.mark.parametrize(("text", "options", "right"), drawn(FORMS_UNREAD))
def test_forms_that_name_two_options_of_any_kind(text: str, options: tuple[str, ...], right: int) -> None:
    assert parse_choice(text, options) == -1
