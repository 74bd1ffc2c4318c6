"""The baseline with pictures is what its formula says, and nothing changes where there is no picture."""

import json
import math
import re
import runpy
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_adapter.core.errors import UserError
from mm_adapter.data.question import Question
from mm_adapter.eval.record import Prediction
from mm_adapter.eval.retrieval import PICTURE_GRID, PictureRetrieval, PictureVote, retrieval_predictions

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "baseline_retrieval.py"
WORDS = ("which", "metal", "map", "animal", "ocean", "colony", "spoon", "shown", "highlighted", "capital")

Features = list[np.ndarray | None]


@st.composite
def asked(draw: st.DrawFn, least: int = 3) -> tuple[list[Question], Features, list[Question], Features]:
    """Training and test questions of few words with features of pictures, the first of each with one for certain."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def make(prefix: str, count: int) -> tuple[list[Question], Features]:
        questions, features = [], Features()
        for number in range(count):
            text = " ".join(random.choice(WORDS, size=5))
            options = tuple(f"{word} {place}" for place, word in enumerate(random.choice(WORDS, random.integers(2, 5))))
            answer = int(random.integers(len(options)))
            questions.append(Question(f"{prefix}{number}", text, options, answer))
            features.append(random.normal(size=6) if number == 0 or random.random() < 0.7 else None)
        return questions, features

    return *make("t", draw(st.integers(least, 12))), *make("q", draw(st.integers(1, 5)))


def vectors(texts: Sequence[str], fitted_on: Sequence[str], terms: Callable[[str], list[str]]) -> np.ndarray:
    """TF-IDF from its definition: ``1 + ln tf`` times ``ln((1 + n) / (1 + df)) + 1``, of length 1."""
    documents = [set(terms(text)) for text in fitted_on]
    vocabulary = sorted(set.union(*documents))
    rarity = [math.log((1 + len(documents)) / (1 + sum(term in own for own in documents))) + 1 for term in vocabulary]
    rows = []
    for text in texts:
        counts = Counter(terms(text))
        row = np.array(
            [(1 + math.log(counts[t])) * r if counts[t] else 0.0 for t, r in zip(vocabulary, rarity, strict=True)]
        )
        rows.append(row / (np.linalg.norm(row) or 1))
    return np.array(rows)


def words_and_pairs(text: str) -> list[str]:
    words = re.findall(r"\b\w\w+\b", text.lower())
    return words + [" ".join(pair) for pair in pairwise(words)]


def pieces(text: str) -> list[str]:
    """Pieces of 2 to 5 characters within words that have a space on each side; a short word is one piece."""
    found = []
    for word in text.lower().split():
        padded = f" {word} "
        for size in range(2, 6):
            found += [padded[start : start + size] for start in range(max(1, len(padded) - size + 1))]
            if size >= len(padded):
                break
    return found


def formula(
    train: Sequence[Question],
    train_features: Features,
    question: Question,
    feature: np.ndarray,
    vote: PictureVote,
) -> list[float]:
    """The votes for one question's options, one training question after another."""
    texts = [" ".join((q.question, q.context, *q.options)) for q in (*train, question)]
    whole = vectors(texts, texts[:-1], words_and_pairs)
    seen = np.array([own for own in train_features if own is not None])
    deviation = np.array([value or 1.0 for value in np.sqrt(((seen - seen.mean(0)) ** 2).mean(0))])
    similar = []
    for index, (other, own) in enumerate(zip(train, train_features, strict=True)):
        picture = 0.0
        if own is not None:
            a, b = ((value - seen.mean(0)) / deviation for value in (feature, own))
            lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
            picture = max(0.0, float(a @ b) / lengths) if lengths else 0.0
        likeness = (1 - vote.weight) * float(whole[-1] @ whole[index]) + vote.weight * picture
        similar.append(0.0 if other.pid == question.pid else likeness)
    voters = sorted(range(len(train)), key=lambda index: (-similar[index], index))[: vote.neighbours]
    every = [option for other in train for option in other.options]
    own_options = vectors(question.options, every, pieces)
    votes = [0.0] * len(question.options)
    for index in voters:
        other = train[index]
        for place, option in enumerate(vectors(other.options, every, pieces)):
            sign = 1.0 if place == other.answer else -1 / (len(other.options) - 1)
            for target in range(len(votes)):
                votes[target] += similar[index] ** 2 * sign * float(own_options[target] @ option)
    return votes


def scores(predictions: Sequence[Prediction]) -> list[tuple[float, ...] | None]:
    return [prediction.scores for prediction in predictions]


@settings(max_examples=30)
@given(asked(), st.sampled_from([0.0, 0.3, 0.9, 1.0]), st.integers(1, 4))
def test_votes_are_those_of_the_formula(
    case: tuple[list[Question], Features, list[Question], Features], weight: float, neighbours: int
) -> None:
    train, train_features, test, features = case
    vote = PictureVote(weight, neighbours)
    found = PictureRetrieval(train, train_features).predictions(test, features, vote)
    for question, feature, prediction in zip(test, features, found, strict=True):
        assert prediction.pid == question.pid
        if feature is not None:
            expected = formula(train, train_features, question, feature, vote)
            assert prediction.scores == pytest.approx(expected, abs=1e-9)
            assert prediction.scores is not None
            assert prediction.choice == int(np.argmax(prediction.scores))


@given(asked(), st.integers(1, 20))
def test_weight_0_is_the_baseline_without_pictures(
    case: tuple[list[Question], Features, list[Question], Features], neighbours: int
) -> None:
    """To the last bit; and at any weight for questions without a picture."""
    train, train_features, test, features = case
    retrieval = PictureRetrieval(train, train_features)
    plain = retrieval_predictions(train, test, neighbours)
    assert retrieval.predictions(test, features, PictureVote(0.0, neighbours), neighbours) == plain
    seen = retrieval.predictions(test, features, PictureVote(1.0, 3), neighbours)
    blind = [place for place, feature in enumerate(features) if feature is None]
    for place in blind:
        assert seen[place].scores == pytest.approx(plain[place].scores, abs=1e-12)
        assert seen[place].choice == plain[place].choice
    nothing: Features = [None] * len(test)
    assert retrieval.predictions(test, nothing, PictureVote(1.0, 3), neighbours) == plain


@given(asked(), st.data())
def test_the_order_of_training_questions_changes_nothing_but_ties(
    case: tuple[list[Question], Features, list[Question], Features], data: st.DataObject
) -> None:
    """Features are drawn from a continuum, so that at weight 1 only those that count 0 tie."""
    train, train_features, test, features = case
    order = data.draw(st.permutations(range(len(train))))
    vote = PictureVote(1.0, data.draw(st.integers(1, 4)))
    pictured = [place for place, feature in enumerate(features) if feature is not None]
    asked_, seen = [test[place] for place in pictured], [features[place] for place in pictured]
    before = PictureRetrieval(train, train_features).predictions(asked_, seen, vote)
    moved = PictureRetrieval([train[i] for i in order], [train_features[i] for i in order])
    for one, other in zip(before, moved.predictions(asked_, seen, vote), strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-9)


@given(asked(), st.sampled_from([0.0, 0.5, 1.0]), st.data())
def test_no_question_votes_on_itself(
    case: tuple[list[Question], Features, list[Question], Features], weight: float, data: st.DataObject
) -> None:
    """What a training question answers is of no matter to its own prediction, and its answer when asked neither."""
    train, features, _, _ = case
    place = data.draw(st.integers(0, len(train) - 1))
    own = train[place]
    changed = list(train)
    changed[place] = replace(own, answer=(own.answer + 1) % len(own.options))
    vote = PictureVote(weight, len(train))
    found = [
        PictureRetrieval(known, features).predictions([asked_], [features[place]], vote, len(train))
        for known, asked_ in ((train, own), (changed, own), (train, replace(own, answer=-1)))
    ]
    assert scores(found[0]) == scores(found[1]) == scores(found[2])


@given(asked(least=4), st.lists(st.sampled_from(PICTURE_GRID), min_size=1, max_size=8))
def test_val_chooses_the_first_of_the_best(
    case: tuple[list[Question], Features, list[Question], Features], grid: list[PictureVote]
) -> None:
    train, train_features, val, features = case
    retrieval = PictureRetrieval(train, train_features)
    vote, shares = retrieval.choose(val, features, grid)
    pictured = [(q, own) for q, own in zip(val, features, strict=True) if own is not None]
    for way, share in zip(grid, shares, strict=True):
        found = retrieval.predictions([q for q, _ in pictured], [own for _, own in pictured], way)
        right = [prediction.choice == q.answer for prediction, (q, _) in zip(found, pictured, strict=True)]
        assert share == sum(right) / len(right)
    assert vote == grid[shares.index(max(shares))]


def test_questions_without_an_answer_or_a_picture_are_no_voters() -> None:
    """An unknown answer leaves the features too; a feature that never varies says nothing and divides by nothing."""
    train = [Question(f"t{i}", "Which?", ("one", "two"), answer) for i, answer in enumerate((0, 1, -1))]
    features: Features = [np.array([0.0, 7.0]), np.array([2.0, 7.0]), np.array([100.0, 0.0])]
    test = [Question("q", "Which?", ("one", "two"), 0)]
    found = PictureRetrieval(train, features).predictions(test, [np.array([1.9, 7.0])], PictureVote(1.0, 1))
    assert found == PictureRetrieval(train[:2], features[:2]).predictions(
        test, [np.array([1.9, 7.0])], PictureVote(1.0, 1)
    )
    assert found[0].choice == 1
    with pytest.raises(UserError, match="no training question with a picture"):
        PictureRetrieval(train, [None, None, np.zeros(2)])
    with pytest.raises(UserError, match="no question to choose by"):
        PictureRetrieval(train, features).choose(test, [None])
    for weight, neighbours in ((-0.1, 1), (1.1, 1), (0.5, 0)):
        with pytest.raises(ValueError, match="must be"):
            PictureVote(weight, neighbours)


def test_many_questions_are_told_as_each_alone() -> None:
    """More than one block of them."""
    random = np.random.default_rng(0)
    train = [Question(f"t{i}", " ".join(random.choice(WORDS, 4)), ("metal", "map"), i % 2) for i in range(20)]
    features: Features = [random.normal(size=3) for _ in train]
    test = [Question(f"q{i}", " ".join(random.choice(WORDS, 4)), ("map", "metal"), 0) for i in range(500)]
    seen: Features = [random.normal(size=3) if i % 3 else None for i in range(500)]
    retrieval, vote = PictureRetrieval(train, features), PictureVote(0.5, 3)
    together = retrieval.predictions(test, seen, vote)
    for question, own, found in zip(test, seen, together, strict=True):
        alone = retrieval.predictions([question], [own], vote)[0]
        assert (found.pid, found.scores) == (question.pid, pytest.approx(alone.scores, abs=1e-12))


def test_script_adds_a_row_and_says_what_val_chose(
    demo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main: Callable[[list[str]], int] = runpy.run_path(str(SCRIPT))["main"]
    file, out = tmp_path / "metrics.json", tmp_path / "out"
    where = ["--data", str(demo_folder), "--features", str(tmp_path / "features")]
    assert main([*where, "--split", "val", "test", "--json", str(file)]) == 0
    plain, words = capsys.readouterr().out.splitlines(), json.loads(file.read_text())
    assert main([*where, "--split", "val", "test", "--pictures", "--json", str(file), "--out", str(out)]) == 0
    shown, found = capsys.readouterr().out.splitlines(), json.loads(file.read_text())
    assert shown[1].split() == plain[1].split()
    assert shown[2].startswith("the same with pictures")
    pictures = found
    assert pictures.pop("words") == words
    best = max(pictures["grid"], key=lambda point: point["val_accuracy"])
    assert len(pictures["grid"]) == len(PICTURE_GRID)
    assert {key: pictures[key] for key in best} == best
    assert f"weight {best['weight']:g} beside words, {best['neighbours']} neighbours" in shown[-1]
    assert f"{best['val_accuracy']:.2f}" in shown[-1]
    assert f"{pictures['official']['acc_has_image']:.2f}" in shown[2].split()
    # Without a picture nothing changes.
    for key in ("acc_no_context", "acc_average"):
        assert pictures["counts"][key] == words["counts"][key]
    assert pictures["official"]["acc_no_context"] == words["official"]["acc_no_context"]
    assert json.loads((out / "words" / "metrics.json").read_text()) == words
    stored = json.loads((out / "metrics.json").read_text())
    assert len((out / "predictions.jsonl").read_text().splitlines()) == stored["counts"]["acc_average"]
    assert {key: pictures[key] for key in stored} == stored
