"""One table of questions in every form is the same dataset; what is not understood or meant in two ways is an error."""

import base64
import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from table_forms import COLOURS, FORMS, ROWS, as_csv, cells, png

from mm_adapter.core.errors import UserError
from mm_adapter.core.images import open_image
from mm_adapter.data.conversations import open_conversations
from mm_adapter.data.question import TableOptions
from mm_adapter.data.readers import read_dataset, task_of
from mm_adapter.data.table_files import open_table


@pytest.fixture(autouse=True)
def own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MM_ADAPTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")


@pytest.mark.parametrize("write", FORMS, ids=lambda form: form.__name__)
def test_every_form_gives_the_same_questions(tmp_path: Path, write: Callable[[Path], str]) -> None:
    """Texts, options, answers, contexts, pictures, ids and the split that is held out."""
    place = tmp_path / "table"
    place.mkdir()
    source = write(place)
    assert task_of(source) == "questions"
    dataset = read_dataset(source)
    found = [(q.pid, q.question, q.options, q.options[q.answer], q.context) for q in dataset.questions]
    assert found == [(str(i), r["question"], tuple(r["choices"]), r["answer"], r["hint"]) for i, r in enumerate(ROWS)]
    for index, question in enumerate(dataset.questions):
        assert (question.image is None) == (index % 2 == 1)
        if question.image is not None:
            assert open_image(question.image).tobytes() == Image.open(io.BytesIO(png(COLOURS[index % 3]))).tobytes()
    assert {name: len(pids) for name, pids in dataset.splits.items()} == {"all": 12, "train": 11, "val": 1}
    assert dataset.splits["val"] == ("6",)
    assert dataset.default_split == "all"
    assert dataset.summary.startswith("12 questions, 6 with a picture, 3 options each, answers by ")


def test_splits_in_files_in_folders_and_in_a_column(tmp_path: Path) -> None:
    """train, val and test however they are kept; a lone test file is that split."""
    parts = {"train": ROWS[:6], "validation": ROWS[6:9], "test": ROWS[9:]}
    (tmp_path / "files").mkdir()
    for name, rows in parts.items():
        cells(tmp_path / "files" / f"{name}.csv", rows)
        (tmp_path / "folders" / name).mkdir(parents=True)
        cells(tmp_path / "folders" / name / "metadata.csv", rows)
    cells(tmp_path / "t.csv", [{**row, "split": name} for name, rows in parts.items() for row in rows])
    for place in ("files", "folders", "t.csv"):
        dataset = read_dataset(str(tmp_path / place))
        assert [len(dataset.split(name)) for name in ("train", "val", "test")] == [6, 3, 3]
        assert dataset.default_split == "test"
    alone = read_dataset(str(tmp_path / "files" / "test.csv"))
    assert list(alone.splits) == ["test"]
    with pytest.raises(UserError, match="there is no split 'train'"):
        alone.split("train")


def test_a_file_is_no_test_split(tmp_path: Path) -> None:
    """What was trained on is not scored as if it were new."""
    source = as_csv(tmp_path)
    with pytest.raises(UserError, match=r"no split 'test'.*all, train, val"):
        read_dataset(source).split("test")
    assert len(read_dataset(source, options=TableOptions(val_share=0.5)).split("val")) == 6
    with pytest.raises(UserError, match="greater than 0 and less than 1"):
        TableOptions(val_share=1.0)


def choice(tmp_path: Path, rows: list[dict[str, Any]], **options: Any) -> Any:
    path = tmp_path / "one.json"
    path.write_text(json.dumps(rows))
    return read_dataset(str(path), options=TableOptions(**options))


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        ({"choices": ["x", "y"], "answer": "B"}, 1),
        ({"choices": ["x", "y"], "answer": "(b)"}, 1),
        ({"choices": ["x", "y"], "answer": 1}, 1),
        ({"choices": ["x", "y"], "answer": 1.0}, 1),
        ({"choices": ["x", "y"], "answer": "1"}, 1),
        ({"choices": ["x", "Y "], "answer": "y"}, 1),
        ({"choices": ["x", "y"], "answer": ["y"]}, 1),
        ({"choices": "['x', 'y']", "answer": "y"}, 1),
        ({"choices": '["x", "y"]', "answer": "y"}, 1),
        ({"choices": "x | y", "answer": "y"}, 1),
        ({"choices": {"A": "x", "B": "y"}, "answer": "B"}, 1),
        ({"choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"}, 1),
        ({"option_a": "x", "option_b": "y", "option_c": "", "answer": "b"}, 1),
        ({"Choice 1": "x", "Choice 2": "y", "answer": "y"}, 1),
        ({"optionA": "x", "optionB": "y", "answer": "B"}, 1),
        ({"choices": [3, 7], "answer": 7}, 1),
        ({"choices": ["A", "B", "x"], "answer": "A"}, 0),
    ],
)
def test_options_and_answers_as_the_world_writes_them(tmp_path: Path, fields: dict[str, Any], answer: int) -> None:
    """Each names one option; a person would not doubt which."""
    (question,) = choice(tmp_path, [{"question": "q?", **fields}]).questions
    assert question.answer == answer


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"choices": ["B", "A"], "answer": "A"}], "which is 'B' by letter and 'A' by text.*--answers"),
        ([{"choices": [1, 2], "answer": 1}], "which is '2' by index and '1' by text"),
        ([{"choices": ["x", "y"], "answer": 2}], "answer index 2 out of range"),
        ([{"choices": ["x", "y"], "answer": 0.5}], "0.5 in the answer, which is no whole number"),
        ([{"choices": ["x", "y"], "answer": "z"}], "'z', which is not"),
        ([{"choices": ["x", "y"], "answer": True}], "which is not"),
        ([{"choices": ["x", "y"], "answer": None}], "has no answer in 'answer'"),
        ([{"choices": ["x"], "answer": "x"}], "only one option"),
        ([{"choices": "['x' 'y']", "answer": "x"}], "neither JSON nor Python"),
        ([{"choices": "x, y", "answer": "x"}], "something else than a list"),
        ([{"A": "x", "B": "", "C": "z", "answer": "A"}], "no option in 'B' but later ones"),
        ([{"choices": ["x", "y"], "answer": "x", "label": 1}], "'answer' and 'label' could both be the answer"),
        ([{"choices": ["x", "y"], "options": ["x", "y"], "answer": "x"}], "could both be the options"),
        ([{"choices": ["x", "y"], "A": "x", "B": "y", "answer": "x"}], "options stand in 'choices' and in A, B"),
        ([{"choices": ["x", "y"], "answer": "x", "notes": ""}], "not known what 'notes' holds"),
        ([{"choices": ["x", "y"], "answer": "x", "id": 1}] * 2, "is there twice"),
    ],
)
def test_what_is_not_plain_is_refused(tmp_path: Path, rows: list[dict[str, Any]], said: str) -> None:
    """Two meanings, or none: never a silent choice."""
    with pytest.raises(UserError, match=said):
        choice(tmp_path, [{"question": "q?", **row} for row in rows])


def test_a_user_says_what_columns_and_answers_mean(tmp_path: Path) -> None:
    """Names win over usual ones; an unknown role or column is an error."""
    row = {"ask": "q?", "choices": ["B", "A"], "answer": "A", "notes": "n"}
    columns = ("question=ask", "ignore=notes")
    assert choice(tmp_path, [row], columns=columns, answers="letter").questions[0].answer == 0
    assert choice(tmp_path, [row], columns=columns, answers="text").questions[0].answer == 1
    for wrong, said in (("questoin=ask", "no role 'questoin', did you mean 'question'"), ("question=aks", "'aks'"),
                        ("ask", "write ROLE=COLUMN")):  # fmt: skip
        with pytest.raises(UserError, match=said):
            choice(tmp_path, [row], columns=(wrong, "ignore=notes"))


@given(
    st.lists(
        st.tuples(st.lists(st.text("abAB123", min_size=1, max_size=3), min_size=2, max_size=4, unique=True), st.data()),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from(["index", "letter", "text"]),
)
def test_a_reading_is_right_or_refused(drawn: list[tuple[list[str], Any]], way: str) -> None:
    """Whatever options and answers are: the way that was written is read, or the table is refused."""
    from mm_adapter.data.choice_rows import ChoiceRow, choose_reading

    rows, right = [], []
    for options, data in drawn:
        index = data.draw(st.integers(0, len(options) - 1))
        answer = {"index": str(index), "letter": "ABCD"[index], "text": options[index]}[way]
        rows.append(ChoiceRow("p", {}, tuple(options), answer))
        right.append(index)
    try:
        reading = choose_reading("t", rows)
    except UserError:
        return
    for row, index in zip(rows, right, strict=True):
        found = row.readings
        assert index == (found[reading] if reading else next(iter(found.values())))


def test_several_annotators(tmp_path: Path) -> None:
    """The most common answer is learned; all are kept."""
    path = tmp_path / "t.jsonl"
    answers = [["two", "2", "two"], [{"answer": "a"}, {"answer": "b"}], "one"]
    path.write_text("\n".join(json.dumps({"question": "q?", "answers": answer}) for answer in answers))
    found = open_conversations(str(path))
    assert [item.turns[1].text for item in found.split("all")] == ["two", "a", "one"]
    assert [item.references for item in found.split("all")] == [("two", "2", "two"), ("a", "b"), ()]
    assert found.summary == "3 questions, 0 with a picture, open answers, 2 with several"


def test_configurations_of_one_dataset_are_not_added_up(tmp_path: Path) -> None:
    """Both named, neither taken; each can be given."""
    for name in ("FULL", "IMG"):
        (tmp_path / name).mkdir()
        datasets.Dataset.from_list(ROWS).to_parquet(tmp_path / name / "test-00000-of-00001.parquet")
    with pytest.raises(UserError, match="2 configurations of a dataset are here, FULL, IMG"):
        read_dataset(str(tmp_path))
    assert len(read_dataset(str(tmp_path / "IMG")).split("test")) == 12


def test_a_configuration_of_the_hub_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a colon; without one the library's list of them is passed on."""
    asked = []

    def load(name: str, config: str | None = None) -> Any:
        asked.append((name, config))
        if config is None:
            raise ValueError("Config name is missing. Please pick one among the available configs: ['A', 'B']")
        return {"test": datasets.Dataset.from_list(ROWS)}

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert len(read_dataset("derek-thomas/ScienceQA:A").split("test")) == 12
    assert asked == [("derek-thomas/ScienceQA", "A")]
    with pytest.raises(UserError, match="Write derek-thomas/ScienceQA:CONFIGURATION"):
        read_dataset("derek-thomas/ScienceQA")


def test_tables_that_cannot_be_told(tmp_path: Path) -> None:
    """Two tables, two forms of one split, an unknown form."""
    cells(tmp_path / "a.csv", ROWS)
    cells(tmp_path / "b.csv", ROWS)
    with pytest.raises(UserError, match=r"which of its 2 tables is meant, a\.csv, b\.csv"):
        open_table(str(tmp_path))
    cells(tmp_path / "train.csv", ROWS)
    (tmp_path / "train.json").write_text("[]")
    with pytest.raises(UserError, match=r"train\.csv or train\.json, which is meant"):
        open_table(str(tmp_path))
    (tmp_path / "t.xyz").write_text("x")
    with pytest.raises(UserError, match="of another form"):
        open_table(str(tmp_path / "t.xyz"))


def test_semicolons_and_huge_cells(tmp_path: Path) -> None:
    """A European spreadsheet; a picture in base64 beyond the csv module's limit."""
    buffer = io.BytesIO()
    Image.effect_noise((400, 400), 90).save(buffer, "PNG")
    picture = base64.b64encode(buffer.getvalue()).decode()
    assert len(picture) > csv.field_size_limit()
    (tmp_path / "t.csv").write_text(f"Question;A;B;Answer;Image\nq?;x;y;B;{picture}\n")
    (question,) = read_dataset(str(tmp_path / "t.csv")).questions
    assert question.image is not None
    assert question.image.read_bytes() == buffer.getvalue()


def test_text_that_is_not_utf8_is_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library meets it only when rows are read."""

    class Broken(list[Any]):
        column_names = ("question", "choices", "answer")
        features = MappingProxyType({})

        def __iter__(self) -> Any:
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    monkeypatch.setattr(datasets, "load_dataset", lambda _name: {"train": Broken()})
    with pytest.raises(UserError, match="split 'train' cannot be read"):
        read_dataset("derek-thomas/ScienceQA")


def test_a_name_of_thousands_of_letters_is_refused_in_few(tmp_path: Path) -> None:
    """The system knows no such name, in the folder or below it; the message does not repeat all of it."""
    (tmp_path / "below").mkdir()
    record = {"question": "Which?", "choices": ["a", "b"], "answer": 0, "image": "x" * 5000}
    (tmp_path / "table.jsonl").write_text(json.dumps(record))
    with pytest.raises(UserError, match="names a picture that is missing") as found:
        read_dataset(str(tmp_path / "table.jsonl"), check_images=True)
    assert len(str(found.value)) < 1000


@pytest.mark.parametrize("name", ["question", "choices", "hint"])
def test_a_text_of_millions_of_letters_is_refused(tmp_path: Path, name: str) -> None:
    """It would be encoded for minutes, only to be cut."""
    record = {"question": "Which?", "choices": ["a", "b"], "answer": 0, "hint": ""}
    record[name] = ["long " * 400_000, "b"] if name == "choices" else "long " * 400_000
    (tmp_path / "table.jsonl").write_text(json.dumps(record))
    with pytest.raises(UserError, match="2,000,000 characters in"):
        read_dataset(str(tmp_path / "table.jsonl"))
