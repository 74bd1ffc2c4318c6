"""Open answers count what the field's evaluators count, worked out here by hand."""

import math

import pytest

from mm_adapter.core.errors import UserError
from mm_adapter.eval.open_answers import normalised_answer, score_open_answers, vqa_accuracy


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("The Red  Ball.", "red ball"),
        ("two dogs", "2 dogs"),
        ("none", "0"),
        ("a cat, a dog", "cat dog"),
        ("yes/no", "yes no"),
        ("yes / no", "yes no"),
        ("1,000 people", "1000 people"),
        ("3.5", "3.5"),
        ("dont know", "don't know"),
        ("they'dve left", "they'd've left"),
        ("YES!", "yes"),
        ("t-shirt", "t shirt"),
        ("well", "well"),
        ("An apple\n", "apple"),
        ("", ""),
    ],
)
def test_answers_are_compared_as_the_vqa_evaluator_compares_them(text: str, normalised: str) -> None:
    assert normalised_answer(text) == normalised


@pytest.mark.parametrize(("matches", "accuracy"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)])
def test_ten_annotators_each_left_out_in_turn(matches: int, accuracy: float) -> None:
    """Three of ten alike: three times two of the nine others match (2/3), seven times three do (1): 9 / 10."""
    references = ["red"] * matches + [f"other {number}" for number in range(10 - matches)]
    assert vqa_accuracy("Red.", references) == pytest.approx(accuracy)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_among_few_references_any_match_counts(count: int) -> None:
    """Left out in turn, no answer could reach 1 among so few."""
    references = ["a dog", *["cat", "hen"][: count - 1]]
    assert vqa_accuracy("dog", references) == 1.0
    assert vqa_accuracy("horse", references) == 0.0


def test_an_empty_answer_is_never_right() -> None:
    """Not even where normalisation leaves nothing of a reference."""
    assert vqa_accuracy("the", ["a", "an", "the"]) == 0.0


def test_means_over_answers_worked_out_by_hand() -> None:
    pytest.importorskip("nltk")
    pytest.importorskip("rouge_score")
    scores = score_open_answers(
        ["A red ball lies here", "two", ""], [["A red ball lies there", "blue"], ["2", "Two "], ["yes"]]
    )
    assert (scores.answers, scores.empty) == (3, 1)
    # "two" is the second reference but for letter case and a space; the others are no reference.
    assert scores.exact_match == pytest.approx(100 / 3)
    assert scores.vqa_accuracy == pytest.approx(100 / 3)
    # Four of five words; and "Two" is not "two" to BLEU, which keeps letter case.
    assert scores.bleu_1 == pytest.approx(100 * (4 / 5) / 3)
    # Of 5, 4, 3, 2 runs of one to four words 4, 3, 2, 1 match.
    assert scores.bleu_4 == pytest.approx(100 * math.prod((4 / 5, 3 / 4, 2 / 3, 1 / 2)) ** 0.25 / 3)
    # Longest common subsequence 4 of 5 and 5 words: F is 4/5; "two" is "Two" to ROUGE.
    assert scores.rouge_l == pytest.approx(100 * (4 / 5 + 1) / 3)


@pytest.mark.parametrize(
    ("responses", "references", "message"),
    [
        ([], [], "0 responses"),
        (["a"], [], "1 responses and 0 lists"),
        (["a", "b"], [["a"], []], "response 1: there is no reference"),
        (["a"], [[" "]], "response 0: there is no reference"),
    ],
)
def test_what_cannot_be_scored_is_refused(responses: list[str], references: list[list[str]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        score_open_answers(responses, references)
