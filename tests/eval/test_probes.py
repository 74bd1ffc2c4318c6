"""Probes find out what planted systems rest on: a blind one, a seeing one, one that always answers A."""

import csv
import io
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from planted_systems import always_first, blind, from_text, pixels, seeing
from scipy.stats import chisquare

from mm_adapter.core.errors import UserError
from mm_adapter.data.demo import write_demo
from mm_adapter.data.question import Question
from mm_adapter.data.readers import read_dataset
from mm_adapter.eval.metrics import judge
from mm_adapter.eval.probes import (
    PICTURE_CHANGES,
    another_picture,
    ask,
    ask_rotations,
    corrected_results,
    mapped_back,
    nearest_questions,
    picture_probe,
    rotate,
    similarity_to_training,
    visual_gain,
    without_context,
)
from mm_adapter.eval.probes.findings import ProbeReport, write_probe_report
from mm_adapter.eval.record import UNREADABLE, Prediction


@pytest.fixture(scope="session")
def demo_questions(tmp_path_factory):
    """The test split of a generated set: 180 questions, 103 with a picture."""
    folder = tmp_path_factory.mktemp("probes") / "demo"
    write_demo(folder, size=1200)
    return read_dataset(str(folder)).split("test")


def probed(system, questions, folder, names=("shuffled", "blank", "none")):
    """Ask all of the picture probes."""
    unprobed = system(questions)
    found = [ask(picture_probe(name, folder), system, questions, unprobed) for name in names]
    return unprobed, {result.name: result for result in corrected_results(found)}


def chance(questions):
    """The accuracy of guessing, in percent."""
    return 100 * sum(1 / len(question.options) for question in questions) / len(questions)


def test_a_blind_system_has_no_visual_gain(demo_questions, tmp_path):
    """The bar: answers from the text alone gain nothing by the right picture, and nothing is claimed."""
    unprobed, results = probed(blind, demo_questions, tmp_path)
    gain = visual_gain(demo_questions, unprobed, results)
    for found in gain.gains.values():
        assert 0 in found.interval
        assert found.verdict == "not decided"
    assert "no sign that the right picture is needed" in gain.sentence()


def test_a_noisy_blind_system_has_no_visual_gain(demo_questions, tmp_path):
    """Blind answers that change from run to run still gain 0 within the interval."""
    runs = iter(range(9))

    def noisy(questions):
        run = next(runs)
        return [
            Prediction(q.pid, from_text(q) if (int(q.pid) * 7 + run) % 4 else run % len(q.options)) for q in questions
        ]

    unprobed, results = probed(noisy, demo_questions, tmp_path)
    gain = visual_gain(demo_questions, unprobed, results)
    assert results["shuffled"].comparison.only_first > 0
    assert 0 in gain.gains[gain.headline].interval


@pytest.mark.parametrize("sharpness", [1.0, 0.5, 0.25])
def test_a_seeing_system_has_its_true_gain(demo_questions, tmp_path, sharpness):
    """The bar: what the pictures are worth to a system that reads a known share of them, over every control."""
    pictured = [question for question in demo_questions if question.image is not None]
    true_gain = sharpness * (100 - chance(pictured))
    unprobed, results = probed(seeing(demo_questions, sharpness), demo_questions, tmp_path)
    gain = visual_gain(demo_questions, unprobed, results)
    assert gain.headline == "shuffled"
    for found in gain.gains.values():
        assert true_gain in found.interval, (true_gain, found)
        assert found.verdict == "better"
        assert found.questions == len(pictured)
    assert "need the right picture" in gain.sentence()
    # Nothing but the questions with pictures is asked again, and they alone change.
    for result in results.values():
        assert result.comparison.questions == len(pictured)
        for before, after in zip(unprobed, result.predictions, strict=True):
            assert before == after or before.pid in {question.pid for question in pictured}


def test_always_the_first_option_is_exposed(demo_questions):
    """The bar: position A in all answers, never the same option twice, accuracy that of guessing."""
    found = ask_rotations(always_first, demo_questions, always_first(demo_questions))
    assert found.consistency == 0
    assert found.mean_accuracy == pytest.approx(chance(demo_questions))
    assert found.p_value < 1e-9
    assert "answers depend on the position: position A is chosen in 100 %" in found.verdict
    for row in found.positions:
        assert row.chosen == row.chosen_rotated == (100 if row.position == 0 else 0)


def test_a_system_that_reads_the_options_is_not_accused(demo_questions):
    """Answers that follow the words are the same in every rotation; every position is chosen alike."""
    found = ask_rotations(blind, demo_questions, blind(demo_questions))
    assert found.consistency == 100
    assert found.result.comparison.difference == 0
    assert found.p_value > 0.01
    assert "no sign" in found.verdict
    for row in found.positions:
        assert row.chosen_rotated == pytest.approx(100 / row.options)
    accuracies = {accuracy for accuracy, number in found.accuracies.values() if number == len(demo_questions)}
    assert len(accuracies) == 1


def test_the_position_test_accuses_as_often_as_it_says(demo_questions):
    """Over many draws, a system without position bias has p below 0.2 in about a fifth of them."""
    from mm_adapter.eval.probes.rotations import position_test

    found = {p.pid: [p] * 5 for p in blind(demo_questions)}
    low = sum(position_test(demo_questions, found, seed)[2] < 0.2 for seed in range(200))
    assert 20 <= low <= 62  # four standard deviations of a binomial around 40


def test_the_statistic_is_that_of_scipy():
    """Two groups by number of options are tested apart and summed; answers that cannot be read stand nowhere."""
    questions = [Question(str(n), "?", ("a", "b") if n < 40 else ("a", "b", "c"), 0) for n in range(80)]

    def system(asked):
        return [Prediction(q.pid, UNREADABLE if int(q.pid) % 10 == 0 else 0) for q in asked]

    found = ask_rotations(system, questions, system(questions))
    assert found.degrees == 3
    assert found.chi_square == pytest.approx(chisquare([36, 0]).statistic + chisquare([36, 0, 0]).statistic)
    assert found.consistency == 0


def test_too_few_questions_are_not_judged():
    """Ten questions say nothing of positions."""
    questions = [Question(str(n), "?", ("a", "b", "c"), 0) for n in range(10)]
    found = ask_rotations(always_first, questions, always_first(questions))
    assert found.p_value is None
    assert "too few" in found.verdict


@given(st.integers(2, 9), st.integers(0, 20), st.data())
def test_rotations_mapped_back_are_the_identity(count, shift, data):
    """Right answer, choice, scores and probabilities of a rotated question come back as those of the question."""
    answer = data.draw(st.integers(-1, count - 1))
    question = Question("q", "?", tuple(f"option {index}" for index in range(count)), answer)
    rotated = rotate(question, shift)
    assert sorted(rotated.options) == sorted(question.options)
    assert answer < 0 or rotated.options[rotated.answer] == question.options[answer]
    assert rotate(rotated, -shift) == question
    scores = tuple(float(option.split()[1]) for option in rotated.options)
    prediction = Prediction("q", rotated.answer, scores, scores)
    back = mapped_back(prediction, shift % count, count)
    assert back.choice == answer
    assert back.scores == back.probabilities == tuple(map(float, range(count)))
    assert mapped_back(Prediction("q", UNREADABLE), shift % count, count) == Prediction("q", UNREADABLE)


@pytest.fixture(scope="session")
def swatches(tmp_path_factory):
    """Eight pictures of two colours each, every one under three names."""
    folder = tmp_path_factory.mktemp("swatches")
    for name in range(24):
        Image.new("RGB", (6, 4), (name % 8 * 30, 0, 0)).save(folder / f"{name}.png")
    return folder


@given(st.lists(st.none() | st.integers(0, 23), min_size=1, max_size=24), st.integers(0, 99))
def test_pictures_of_other_questions_are_a_derangement(swatches, names, seed):
    """Each picture is used once, none at its own question, none at an equal one where that can be; the seed decides."""
    questions = [
        Question(str(place), "?", ("a", "b"), 0, image=None if name is None else swatches / f"{name}.png")
        for place, name in enumerate(names)
    ]
    moved = another_picture(questions, seed)
    assert moved == another_picture(questions, seed)
    assert Counter(q.image for q in moved) == Counter(q.image for q in questions)
    kinds = Counter(name % 8 for name in names if name is not None)
    can_be = max(kinds.values(), default=0) <= kinds.total() / 2
    for before, after in zip(questions, moved, strict=True):
        assert replace(after, image=before.image) == before
        assert (before.image is None) == (after.image is None)
        if before.image is not None and can_be:
            assert pixels(before.image) != pixels(after.image)


def test_another_seed_is_another_order(demo_questions):
    """Seeds differ; the same one repeats."""
    assert another_picture(demo_questions, 0) == another_picture(demo_questions, 0)
    assert another_picture(demo_questions, 0) != another_picture(demo_questions, 1)


@pytest.mark.parametrize("name", ["blank", "blur", "downscale"])
def test_changed_pictures_keep_their_size_and_leave_the_data_alone(demo_questions, tmp_path, name):
    """They are files elsewhere, of the same size and other pixels; blank ones are grey all over."""
    questions = [question for question in demo_questions if question.image is not None][:6]
    originals = [question.image.read_bytes() for question in questions]
    changed = picture_probe(name, tmp_path).change(questions)
    for before, after, original in zip(questions, changed, originals, strict=True):
        assert before.image.read_bytes() == original
        assert after.image.is_relative_to(tmp_path)
        with Image.open(before.image) as old, Image.open(after.image) as new:
            assert old.size == new.size
            assert pixels(before.image) != pixels(after.image)
            if name == "blank":
                assert new.getcolors() == [(new.width * new.height, (128, 128, 128))]


def test_every_picture_probe_is_told_what_it_does():
    """Each has a text for the report, and only those are known."""
    assert list(PICTURE_CHANGES) == ["blank", "shuffled", "none", "blur", "downscale"]
    with pytest.raises(KeyError):
        picture_probe("blanc", Path("."))


def test_a_system_that_lives_on_contexts_is_found(demo_questions):
    """Without the text it falls; questions that have none are not asked again."""

    def reader(questions):
        return [Prediction(q.pid, q.answer if q.context else 0) for q in questions]

    result = corrected_results([ask(without_context(), reader, demo_questions, reader(demo_questions))])[0]
    assert result.comparison.questions == sum(bool(question.context) for question in demo_questions)
    assert result.comparison.verdict == "worse"
    contexts = [question for question in demo_questions if question.context]
    assert result.moved == sum(question.answer != 0 for question in contexts)


def test_a_probe_that_changes_nothing_is_refused(demo_questions):
    """No verdict without a changed question."""
    plain = [question for question in demo_questions if not question.context]
    with pytest.raises(UserError, match="no-context: changes none"):
        ask(without_context(), blind, plain, blind(plain))


def test_p_values_are_corrected_for_the_number_of_probes(demo_questions, tmp_path):
    """Holm over three probes: the smallest p-value counts three times."""
    system = seeing(demo_questions, 0.02)
    unprobed = system(demo_questions)
    found = [ask(picture_probe(name, tmp_path), system, demo_questions, unprobed) for name in PICTURE_CHANGES][:3]
    smallest = min(result.comparison.p_value for result in found)
    adjusted = min(result.comparison.adjusted for result in corrected_results(found))
    assert adjusted == pytest.approx(min(1, 3 * smallest))


def test_near_duplicates_show():
    """A copied question is its own neighbour at similarity 1; a memory of the training set falls with distance."""
    subjects = ("cats", "dogs", "tides", "verbs", "coins", "stars", "maps", "salts")
    train = [
        Question(f"t{n}", f"What of {word} eats grass at noon?", ("this", "that"), 0) for n, word in enumerate(subjects)
    ]
    test = [replace(question, pid=f"s{n}") for n, question in enumerate(train[:4])]
    test += [Question(f"s{n}", f"Why {n} {n * 7}?", ("alpha", "beta"), 1) for n in range(4, 8)]
    found = nearest_questions(train, test)
    assert [near.nearest for near in found[:4]] == ["t0", "t1", "t2", "t3"]
    assert all(near.similarity == pytest.approx(1) and near.same_answer for near in found[:4])
    assert all(near.similarity == 0 and not near.same_answer for near in found[4:])
    memory = judge([Prediction(q.pid, 0) for q in test], test, ())
    similarity = similarity_to_training(found, memory)
    assert [quartile.accuracy for quartile in similarity.quartiles] == [0, 0, 100, 100]
    assert similarity.neighbours[0].similarity >= similarity.neighbours[-1].similarity
    # A question of the training split never is its own neighbour.
    assert all(near.pid != near.nearest for near in nearest_questions(train, train[:2] + test))


def test_report_holds_every_figure(demo_questions, tmp_path):
    """Markdown, CSV and JSON of a probed system agree, and a subset is said to be one."""
    unprobed, results = probed(blind, demo_questions, tmp_path / "pictures")
    rotations = ask_rotations(blind, demo_questions, unprobed)
    outcomes = judge(unprobed, demo_questions, ())
    similarity = similarity_to_training(nearest_questions(demo_questions, demo_questions), outcomes)
    report = ProbeReport(
        *("blind", "test", len(demo_questions), 103, 9999, 3, 40.0, 30.0),
        results=list(results.values()),
        gain=visual_gain(demo_questions, unprobed, results),
        rotations=rotations,
        similarity=similarity,
        not_applied={"labels": "answers are texts."},
        notes=["A note."],
    )
    write_probe_report(tmp_path / "out", report)
    text = (tmp_path / "out" / "probe.md").read_text()
    assert "drawn from 9999 by seed 3" in text
    assert "Probe labels does not apply: answers are texts." in text
    assert all(line in text for line in ("## Rotated options", "## Nearest training questions", "A note."))
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "probe.csv").read_text())))
    assert [row["probe"] for row in rows] == ["unprobed", "shuffled", "blank", "none"]
    figures = json.loads((tmp_path / "out" / "probe.json").read_text())
    for row in rows[1:]:
        assert float(row["difference"]) == figures["probes"][row["probe"]]["difference"]
    assert figures["visual_gain"]["headline"] == "shuffled"
    assert figures["rotations"]["consistency"] == 100
