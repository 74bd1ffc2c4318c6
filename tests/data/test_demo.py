"""The generated set: reproducible, of ScienceQA's shape, and unanswerable without its pictures where it has some."""

import json
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mm_adapter.core.errors import UserError
from mm_adapter.core.images import open_image
from mm_adapter.data.demo import draft_demo, split_digits, write_demo
from mm_adapter.data.question import Dataset
from mm_adapter.data.readers import read_dataset

SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "set"
    write_demo(out, seed=3, size=900)
    return out


@pytest.fixture(scope="module")
def dataset(folder) -> Dataset:
    return read_dataset(str(folder), check_images=True)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_same_seed_same_bytes_and_another_seed_others(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_demo(tmp_path / name, seed=seed, size=80)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert content(tmp_path / "a") != content(tmp_path / "c")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


def test_every_question_loads_and_every_picture_opens(dataset):
    assert len(dataset.questions) == 900
    assert [len(dataset.split(name)) for name in SPLITS] == [693, 72, 135]
    for question in dataset.questions:
        if question.image is not None:
            image = open_image(question.image)
            assert min(image.size) >= 96
            assert len(image.getcolors(10**6)) > 1


def test_set_has_the_shape_of_scienceqa(dataset):
    for name in SPLITS:
        questions = dataset.split(name)
        assert {q.subject for q in questions} == {"natural science", "social science", "language science"}
        assert {q.grade for q in questions} == set(range(1, 13))
        assert {len(q.options) for q in questions} == {2, 3, 4, 5}
        pictured = sum(q.image is not None for q in questions) / len(questions)
        assert 0.5 <= pictured <= 0.6
        assert any(q.image is None and q.context for q in questions)
        assert any(q.image is None and not q.context for q in questions)
    assert all(q.topic and q.category and q.skill for q in dataset.questions)
    assert any(q.lecture for q in dataset.questions)
    assert any(q.solution for q in dataset.questions)


def test_texts_are_short_and_options_differ(dataset):
    for question in dataset.questions:
        assert len(f"{question.context} {question.question}".split()) <= 40
        assert all(len(option.split()) <= 6 for option in question.options)
        assert len(set(question.options)) == len(question.options)


def test_no_text_of_the_test_is_in_training(dataset):
    texts = {
        name: {(q.context, q.question, *sorted(q.options)) for q in dataset.split(name) if q.image is None}
        for name in SPLITS
    }
    assert not texts["test"] & texts["train"]
    assert not texts["val"] & texts["train"]


def check_chance(drafts: list) -> None:
    """Every text with a picture has each of its options right equally often: no reader of the text beats chance."""
    by_text, by_set = defaultdict(Counter), defaultdict(Counter)
    for draft in drafts:
        if draft.picture is not None:
            by_text[draft.context, draft.question, draft.options][draft.answer] += 1
            by_set[draft.question, frozenset(draft.options)][draft.options[draft.answer]] += 1
    assert by_text
    for (_, _, options), answers in by_text.items():
        assert set(answers) == set(range(len(options)))
        assert len(set(answers.values())) == 1
    for (_, options), answers in by_set.items():
        assert set(answers) == options
        assert len(set(answers.values())) == 1


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.integers(60, 700))
def test_text_alone_is_at_chance_on_pictures_in_every_split(seed, size):
    drafts = draft_demo(seed, size)
    assert sum(len(own) for own in drafts.values()) == size
    for own in drafts.values():
        check_chance(own)


def test_digits_are_most_of_the_pictures(folder):
    problems = json.loads((folder / "problems.json").read_text())
    sources = [problem["picture_source"] for problem in problems.values() if problem["image"]]
    assert 0.65 <= sum(source.startswith("digit") for source in sources) / len(sources) <= 0.75


def test_no_digit_sample_is_in_two_splits(folder):
    samples: dict[str, set[int]] = {name: set() for name in SPLITS}
    for problem in json.loads((folder / "problems.json").read_text()).values():
        found = re.search(r"sample (\d+)", problem.get("picture_source", ""))
        if found:
            samples[problem["split"]].add(int(found[1]))
    assert all(samples.values())
    assert not samples["train"] & samples["val"]
    assert not samples["train"] & samples["test"]
    assert not samples["val"] & samples["test"]


def test_every_digit_sample_is_in_exactly_one_split():
    used = Counter(index for own in split_digits(5).values() for samples in own.values() for index, _ in samples)
    assert set(used.values()) == {1}
    assert len(used) == 1797


def test_answer_is_what_the_picture_shows(folder):
    for problem in json.loads((folder / "problems.json").read_text()).values():
        if problem.get("picture_source", "").startswith("digit"):
            word = problem["picture_source"].split()[1].strip(",")
            assert word in problem["choices"][problem["answer"]]


def test_smallest_and_too_small_sizes(tmp_path):
    write_demo(tmp_path / "small", size=60)
    dataset = read_dataset(str(tmp_path / "small"), check_images=True)
    assert all(any(q.image for q in dataset.split(name)) for name in SPLITS)
    with pytest.raises(UserError, match="--size 59 is too small"):
        write_demo(tmp_path / "smaller", size=59)
    assert not (tmp_path / "smaller").exists()


def test_empty_folder_is_filled_but_nothing_is_overwritten(tmp_path):
    (tmp_path / "set").mkdir()
    write_demo(tmp_path / "set", size=60)
    before = content(tmp_path / "set")
    with pytest.raises(UserError, match="not an empty folder"):
        write_demo(tmp_path / "set", size=60)
    assert content(tmp_path / "set") == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="not an empty folder"):
        write_demo(tmp_path / "file", size=60)
    with pytest.raises(UserError, match="cannot be written"):
        write_demo(tmp_path / "file" / "set", size=60)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_interrupted_run_leaves_nothing_behind(tmp_path, monkeypatch, error):
    saved = []

    def stop(*_args, **_options):
        saved.append(1)
        if len(saved) > 5:
            raise error

    monkeypatch.setattr(Image.Image, "save", stop)
    with pytest.raises(UserError if isinstance(error, OSError) else KeyboardInterrupt):
        write_demo(tmp_path / "set", size=60)
    assert list(tmp_path.iterdir()) == []
