"""The official layout is read as it is; what is wrong with it is named, or skipped on request, never a traceback."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scienceqa_records import problem

from mm_adapter.core.errors import UserError
from mm_adapter.data.question import Dataset, Question
from mm_adapter.data.readers import read_scienceqa

SHARED = Path(__file__).parents[3] / "shared"


def test_fields_arrive_in_the_question(make_folder):
    folder = make_folder({"1": problem(image="image.png", hint="Look.")}, {"test": ["1"]})
    (question,) = read_scienceqa(folder).split("test")
    assert question == Question(
        pid="1",
        question="Which animal is a bird?",
        options=("owl", "cow", "cod"),
        answer=0,
        context="Look.",
        image=folder / "images" / "test" / "1" / "image.png",
        subject="natural science",
        topic="biology",
        category="Classification",
        skill="Identify birds",
        grade=4,
        split="test",
        lecture="Birds have feathers.",
        solution="An owl has feathers.",
    )


def test_split_keeps_the_order_of_the_split_file(make_folder):
    dataset = read_scienceqa(make_folder())
    assert [question.pid for question in dataset.split("train")] == ["2", "1"]
    assert [question.pid for question in dataset.questions] == ["1", "2", "3", "4"]
    assert {question.pid: question.split for question in dataset.questions}["3"] == "val"
    assert dataset.bad == dataset.skipped("train") == {}


def test_official_sample_splits_may_overlap_with_the_three(make_folder):
    splits = {"minival": ["3"], "trainval": ["1", "2", "3"], "train": ["1", "2"], "val": ["3"], "test": ["4"]}
    dataset = read_scienceqa(make_folder(splits=splits))
    assert [question.split for question in dataset.split("minival")] == ["val"]
    assert len(dataset.split("trainval")) == 3


def test_missing_optional_fields_are_empty(make_folder):
    record = {"question": "Q?", "choices": ["a", "b"], "answer": 1, "hint": None}
    (question,) = read_scienceqa(make_folder({"1": record}, {"train": ["1"]})).questions
    assert (question.context, question.grade, question.image, question.lecture) == ("", 0, None, "")


@pytest.mark.parametrize("name", ["tset", "nothing"])
def test_unknown_split_is_refused_with_the_nearest_name(make_folder, name):
    dataset = read_scienceqa(make_folder())
    with pytest.raises(UserError, match="Splits there are: train, val, test") as error:
        dataset.split(name)
    assert ("did you mean 'test'" in str(error.value)) == (name == "tset")
    with pytest.raises(UserError, match="there is no split"):
        dataset.skipped(name)


def test_empty_split_is_refused(make_folder):
    folder = make_folder({"1": problem()}, {"train": [], "test": ["1"]})
    with pytest.raises(UserError, match=r"'train' cannot be used, it is empty\. Splits with questions: test"):
        read_scienceqa(folder).split("train")
    with pytest.raises(UserError, match="No split has any question"):
        Dataset((), {"train": ()}).split("train")


def test_split_of_which_all_was_skipped_is_refused(make_folder):
    folder = make_folder({"1": problem(answer=9), "2": problem()}, {"train": ["2"], "test": ["1"]})
    with pytest.raises(UserError, match="all of its 1 questions were skipped"):
        read_scienceqa(folder, skip_bad=True).split("test")


BAD_RECORDS = {
    "no options": (problem(choices=[]), "no options"),
    "options missing": ({"question": "Q?", "answer": 0}, "no options"),
    "one option": (problem(choices=["a"]), "only one option"),
    "options no list": (problem(choices="ab"), "list of texts"),
    "options no texts": (problem(choices=["a", 1]), "list of texts"),
    "blank option": (problem(choices=["a", " "]), "empty option"),
    "answer too large": (problem(answer=3), "out of range"),
    "answer huge": (problem(answer=10**400), "out of range"),
    "answer negative": (problem(answer=-1), "out of range"),
    "answer true": (problem(answer=True), "true or false in 'answer'"),
    "answer float": (problem(answer=1.0), "which is no whole number"),
    "answer text": (problem(answer="1"), "text in 'answer'"),
    "answer missing": (problem(answer=None), "nothing in 'answer'"),
    "question missing": (problem(question=None), "no text in 'question'"),
    "question blank": (problem(question=" \n"), "no text in 'question'"),
    "question list": (problem(question=["Q?"]), "a list in 'question'"),
    "hint object": (problem(hint={}), "an object in 'hint'"),
    "lone surrogate": (problem(lecture="\ud800"), "broken characters"),
    "grade unknown": (problem(grade="grade13"), "grade1 to grade12"),
    "record no object": ([1, 2], "a list where an object"),
    "record null": (None, "nothing where an object"),
    "image no text": (problem(image=5), "file name in 'image'"),
}


@pytest.mark.parametrize(("record", "reason"), BAD_RECORDS.values(), ids=BAD_RECORDS)
def test_bad_question_is_refused_by_name_and_skipped_on_request(make_folder, record, reason):
    folder = make_folder({"77": record, "2": problem()}, {"train": ["77", "2"]})
    with pytest.raises(UserError, match=r"problems\.json: question '77'") as error:
        read_scienceqa(folder)
    assert reason in str(error.value)
    assert "--skip-bad" in str(error.value)
    dataset = read_scienceqa(folder, skip_bad=True)
    assert [question.pid for question in dataset.split("train")] == ["2"]
    assert reason in dataset.bad["77"]
    assert dataset.skipped("train") == dict(dataset.bad)


BAD_SPLITS = {
    "in no split": ({"train": ["1"]}, "2", "in no split", []),
    "unknown": ({"train": ["1", "2"], "test": ["9"]}, "9", "does not have it", ["test"]),
    "in two": ({"train": ["1", "2"], "test": ["2"]}, "2", "in two splits", ["train", "test"]),
    "twice in one": ({"train": ["1", "2", "2"]}, "2", "listed twice", ["train"]),
}


@pytest.mark.parametrize(("splits", "pid", "reason", "counted"), BAD_SPLITS.values(), ids=BAD_SPLITS)
def test_pid_that_fits_no_split_is_refused_and_skipped_on_request(make_folder, splits, pid, reason, counted):
    folder = make_folder({"1": problem(), "2": problem()}, splits)
    with pytest.raises(UserError, match=reason) as error:
        read_scienceqa(folder)
    assert f"question {pid!r}" in str(error.value)
    dataset = read_scienceqa(folder, skip_bad=True)
    assert list(dataset.bad) == [pid]
    assert [name for name in splits if pid in dataset.skipped(name)] == counted
    assert pid not in dataset.by_pid


def test_message_counts_the_other_bad_questions(make_folder):
    folder = make_folder({pid: problem(answer=9) for pid in "123"}, {"train": ["1", "2", "3"]})
    with pytest.raises(UserError, match=r"2 more questions are bad"):
        read_scienceqa(folder)


BROKEN_FILES = {
    "not JSON": ("{", None, "problems.json.*not JSON"),
    "not an object": ([1], None, "problems.json.*object at its top"),
    "null": ("null", None, "problems.json.*object at its top"),
    "nested too deep": ("[" * 200_000, None, "problems.json.*JSON"),
    "endless number": ('{"1": ' + "1" * 10_000 + "}", None, "problems.json"),
    "surrogate in a pid": ('{"\\ud800": {}}', None, "broken characters"),
    "splits not JSON": (None, "x", "pid_splits.json.*not JSON"),
    "splits a list": (None, ["1"], "pid_splits.json.*object at its top"),
    "split no list": (None, {"train": "1"}, "'train' must be a list of pids"),
    "pids as numbers": (None, {"train": [1, 2]}, "'train' must be a list of pids"),
}


@pytest.mark.parametrize(("problems", "splits", "message"), BROKEN_FILES.values(), ids=BROKEN_FILES)
def test_broken_file_is_refused_even_when_skipping(make_folder, problems, splits, message):
    folder = make_folder(problems, splits)
    with pytest.raises(UserError, match=message):
        read_scienceqa(folder, skip_bad=problems is None)


def test_missing_folder_and_files_are_named(tmp_path, make_folder):
    with pytest.raises(UserError, match="nowhere: this data folder does not exist"):
        read_scienceqa(tmp_path / "nowhere")
    for name in ("problems.json", "pid_splits.json"):
        folder = make_folder()
        (folder / name).unlink()
        with pytest.raises(UserError, match=f"{name}: .* does not exist"):
            read_scienceqa(folder)
    (folder / "pid_splits.json").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UserError, match="not JSON"):
        read_scienceqa(folder)


ESCAPES = ["../../../../secret.png", "/etc/passwd", "..", "a/b.png", "..\\x.png", "C:x.png", "a\0.png", "image\n.png"]


@pytest.mark.parametrize("name", ESCAPES)
def test_image_name_that_leaves_the_folder_is_refused(make_folder, name):
    with pytest.raises(UserError, match="picture outside the data folder"):
        read_scienceqa(make_folder({"1": problem(image=name)}, {"train": ["1"]}))


@pytest.mark.parametrize("place", ["pid", "split", "own split"])
def test_pid_and_split_lead_out_of_the_folder_no_more_than_the_name(make_folder, place):
    pid = "../../.." if place == "pid" else "1"
    split = "../.." if place == "split" else "train"
    own = "../.." if place == "own split" else "train"
    folder = make_folder({pid: problem(image="image.png", split=own)}, {split: [pid]})
    with pytest.raises(UserError, match="picture outside the data folder"):
        read_scienceqa(folder)


@pytest.mark.parametrize("linked", ["images/train/1/image.png", "images/train/1"])
def test_link_that_leaves_the_folder_is_refused(make_folder, put_image, tmp_path, linked):
    folder = make_folder({"1": problem(image="image.png")}, {"train": ["1"]})
    put_image(tmp_path / "outside" / "train" / "1" / "image.png")
    put_image(tmp_path / "outside" / "image.png")
    target = tmp_path / "outside" / ("image.png" if linked.endswith("png") else "")
    (folder / linked).parent.mkdir(parents=True, exist_ok=True)
    os.symlink(target, folder / linked)
    with pytest.raises(UserError, match="through a link"):
        read_scienceqa(folder)


def test_link_to_the_whole_folder_is_welcome(make_folder, put_image, tmp_path):
    folder = make_folder({"1": problem(image="image.png")}, {"train": ["1"]})
    put_image(folder / "images" / "train" / "1" / "image.png")
    os.symlink(folder, tmp_path / "link")
    (question,) = read_scienceqa(tmp_path / "link", check_images=True).questions
    assert question.image is not None
    assert question.image.is_file()


@pytest.mark.parametrize("linked", ["images", "images/train"])
def test_link_to_a_folder_of_pictures_is_welcome(make_folder, put_image, tmp_path, linked):
    """Everyone links data sets: a link that is no part of a record is the user's own."""
    folder = make_folder({"1": problem(image="image.png")}, {"train": ["1"]})
    put_image(tmp_path / "elsewhere" / "train" / "1" / "image.png")
    (folder / linked).parent.mkdir(parents=True, exist_ok=True)
    os.symlink(tmp_path / "elsewhere" / linked.removeprefix("images").strip("/"), folder / linked)
    (question,) = read_scienceqa(folder, check_images=True).questions
    assert question.image is not None
    assert question.image.is_file()


def test_endless_link_is_no_traceback(make_folder):
    folder = make_folder({"1": problem(image="image.png")}, {"train": ["1"]})
    os.symlink(folder / "images", folder / "images")
    with pytest.raises(UserError):
        read_scienceqa(folder, check_images=True)


@pytest.mark.parametrize("stored", ["train", "test"])
def test_image_is_found_under_the_split_file_or_the_own_split(make_folder, put_image, stored):
    folder = make_folder({"1": problem(image="image.png", split="test")}, {"train": ["1"]})
    path = put_image(folder / "images" / stored / "1" / "image.png")
    (question,) = read_scienceqa(folder, check_images=True).questions
    assert question.image == path


def test_image_on_disk_is_asked_for_only_on_request(make_folder):
    folder = make_folder({"1": problem(image="image.png"), "2": problem()}, {"train": ["1", "2"]})
    assert read_scienceqa(folder).questions[0].image == folder / "images" / "train" / "1" / "image.png"
    with pytest.raises(UserError, match=r"picture that is missing: .*image\.png"):
        read_scienceqa(folder, check_images=True)
    assert list(read_scienceqa(folder, skip_bad=True, check_images=True).skipped("train")) == ["1"]


def test_shared_real_questions_load_with_their_split_sizes():
    if not (SHARED / "scienceqa").is_dir():
        pytest.skip("needs ../shared/scienceqa, which is not part of the project")
    dataset = read_scienceqa(SHARED / "scienceqa", check_images=True)
    assert {name: len(dataset.split(name)) for name in dataset.splits} == {"train": 3450, "val": 264, "test": 400}
    images = {name: sum(q.image is not None for q in dataset.split(name)) for name in dataset.splits}
    assert images == {"train": 1309, "val": 122, "test": 185}


def test_shared_evaluation_set_loads_without_its_pictures():
    if not (SHARED / "parity" / "scienceqa_eval").is_dir():
        pytest.skip("needs ../shared/parity, which is not part of the project")
    questions = read_scienceqa(SHARED / "parity" / "scienceqa_eval").split("test")
    assert len(questions) == 3414
    assert sum(question.image is not None for question in questions) == 1616


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
RECORDS = JSON_VALUES | st.fixed_dictionaries(
    {"question": st.just("Q?") | JSON_VALUES, "choices": st.just(["a", "b"]) | JSON_VALUES},
    optional=dict.fromkeys(("answer", "hint", "image", "grade", "subject", "split", "lecture"), JSON_VALUES),
)
PIDS = st.sampled_from(["1", "2", "..", "a/b", ""]) | st.text(max_size=4)
SPLITS = JSON_VALUES | st.dictionaries(st.sampled_from(["train", "val", ".."]), st.lists(PIDS, max_size=4), max_size=3)


@settings(max_examples=150, deadline=None)
@given(problems=JSON_VALUES | st.dictionaries(PIDS, RECORDS, max_size=4), splits=SPLITS)
def test_hostile_json_gives_questions_or_a_user_error(problems: Any, splits: Any):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "problems.json").write_text(json.dumps(problems))
        (folder / "pid_splits.json").write_text(json.dumps(splits))
        try:
            dataset = read_scienceqa(folder, skip_bad=True)
        except UserError:
            return
        assert len(dataset.questions) + len(set(dataset.bad) & set(problems)) == len(problems)
        for question in dataset.questions:
            assert 0 <= question.answer < len(question.options)
            assert len(question.options) >= 2
            assert question.image is None or folder.resolve() in question.image.resolve().parents
        json.dumps(dict(dataset.bad)).encode("utf-8")
        str(dict(dataset.bad)).encode("utf-8")


@settings(max_examples=50, deadline=None)
@given(order=st.permutations([str(number) for number in range(8)]), cut=st.integers(1, 7))
def test_every_question_is_in_exactly_the_split_that_names_it(order: list[str], cut: int):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "problems.json").write_text(json.dumps({pid: problem() for pid in sorted(order)}))
        (folder / "pid_splits.json").write_text(json.dumps({"train": order[:cut], "test": order[cut:]}))
        dataset = read_scienceqa(folder)
        assert [question.pid for question in dataset.split("train")] == order[:cut]
        assert [question.pid for question in dataset.split("test")] == order[cut:]
