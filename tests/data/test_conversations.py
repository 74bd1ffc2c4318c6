"""Instructions, conversations and tables come in as one record; what is wrong is named with its file and place."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mm_adapter.core.errors import UserError
from mm_adapter.data.conversation import ASSISTANT, USER, Conversation, Turn
from mm_adapter.data.conversations import read_conversations

SAMPLES = [
    {"instruction": "Name a bird.", "input": "", "output": "An owl.", "source": "seeds"},
    {"instruction": "Translate.", "input": "owl", "output": "Eule", "id": "b"},
]
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.fixture(autouse=True)
def own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")


def write(path: Path, records: Any) -> Path:
    """Write a JSON list, JSON lines by the suffix, or raw text."""
    if isinstance(records, str):
        path.write_text(records, encoding="utf-8")
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    else:
        path.write_text(json.dumps(records), encoding="utf-8")
    return path


# Alpaca


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_instructions_from_a_list_and_from_lines(tmp_path: Path, name: str) -> None:
    """The same samples either way; ids and sources are kept where there are some."""
    path = write(tmp_path / name, SAMPLES)
    assert read_conversations(str(path)) == [
        Conversation("0", (Turn(USER, "Name a bird."), Turn(ASSISTANT, "An owl."))),
        Conversation("b", (Turn(USER, "Translate.", "owl"), Turn(ASSISTANT, "Eule"))),
    ]


def test_instructions_from_parquet_as_on_the_hub(tmp_path: Path) -> None:
    """Through the datasets library; further columns are passed over, splits are chosen by name."""
    rows = [{"instruction": s["instruction"], "input": s["input"], "output": s["output"], "text": "x"} for s in SAMPLES]
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "train-00000-of-00001.parquet")
    datasets.Dataset.from_list(rows[1:]).to_parquet(tmp_path / "validation-00000-of-00001.parquet")
    assert [item.turns[1].text for item in read_conversations(str(tmp_path))] == ["An owl.", "Eule"]
    assert [item.turns[0].context for item in read_conversations(str(tmp_path), split="val")] == ["owl"]
    with pytest.raises(UserError, match="no split 'test'"):
        read_conversations(str(tmp_path), split="test")


def test_the_real_set_is_read(shared: Path) -> None:
    """653 training samples in the 52K's format."""
    assert len(read_conversations(str(shared / "instructions" / "train.json"))) == 653


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(st.tuples(TEXT.filter(str.strip), TEXT, TEXT), min_size=1, max_size=4),
    st.sampled_from([".json", ".jsonl"]),
)
def test_any_text_survives(tmp_path: Path, samples: list[tuple[str, str, str]], suffix: str) -> None:
    """Whatever stands in a sample, line separators of every script included."""
    records = [dict(zip(("instruction", "input", "output"), sample, strict=True)) for sample in samples]
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    content = "\n".join(lines) if suffix == ".jsonl" else f"[{','.join(lines)}]"
    (tmp_path / f"a{suffix}").write_bytes(content.encode())
    found = [
        (request.text, request.context, response.text)
        for conversation in read_conversations(str(tmp_path / f"a{suffix}"))
        for request, response in conversation.exchanges
    ]
    assert found == samples


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", [SAMPLES[0], {"instruction": "x"}], "a.jsonl, line 2: has no 'output'"),
        ("a.json", [SAMPLES[0], {"output": "x"}], "a.json, record 1: has no 'instruction'"),
        ("a.json", [{"instruction": " ", "output": "x"}], "record 0: has no text in 'instruction'"),
        ("a.json", [{"instruction": 3, "output": "x"}], "has a number in 'instruction'"),
        ("a.json", [{"instruction": "x", "output": "\ud800"}], "broken characters"),
        ("a.json", [{"instruction": "x", "output": "y"}, [], 3], "record 1: is a list .*1 more are bad"),
        ("a.jsonl", '{"instruction": "x", "output": "y"}\n\n{"instruction', "line 3: not JSON"),
        ("a.json", "[" * 100_000, "not JSON"),
        ("a.json", "[]", "is empty"),
        ("a.jsonl", "\n \n", "is empty"),
        ("a.json", [{"prompt": "x"}], "no column holds the answer.*Columns: prompt"),
        ("a.json", "3", "no column holds the question"),
        ("a.json", '{\n "a": 3,\n "b": []\n}', "valid JSON, but an object .a, b. where a list"),
    ],
)
def test_bad_instructions(tmp_path: Path, name: str, content: Any, said: str) -> None:
    """The file and the line or record are named, with what is missing."""
    path = write(tmp_path / name, content)
    with pytest.raises(UserError, match=said) as caught:
        read_conversations(str(path))
    assert str(path) in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """No file, a folder without any, text that is not UTF-8; no name of a file is looked for on the hub."""
    (tmp_path / "latin.json").write_bytes(b'[{"instruction": "caf\xe9"}]')
    with pytest.raises(UserError, match="is not UTF-8 text"):
        read_conversations(str(tmp_path / "latin.json"))
    for missing in (str(tmp_path / "nothing.json"), "owner/name.json", "table.csv", "nothing"):
        with pytest.raises(UserError, match="does not exist"):
            read_conversations(missing)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no table and no problems\.json is in this folder.*train\.csv"):
        read_conversations(str(tmp_path / "empty"))
    with pytest.raises(UserError, match="image folder does not exist"):
        read_conversations(str(tmp_path / "latin.json"), tmp_path / "pictures")


# LLaVA


def spoken(*texts: str, image: Any = "a.png", **fields: Any) -> dict[str, Any]:
    turns = [{"from": ("human", "gpt")[index % 2], "value": text} for index, text in enumerate(texts)]
    return {"conversations": turns, **({} if image is None else {"image": image}), **fields}


@pytest.fixture
def pictures(tmp_path: Path, put_image: Callable[[Path], Path]) -> Path:
    """A folder with two pictures, one in a subfolder, and a link that leads out of it."""
    folder = tmp_path / "pictures"
    put_image(folder / "a.png")
    put_image(folder / "birds" / "owl.png")
    put_image(tmp_path / "outside.png")
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    return folder


@pytest.mark.parametrize("where", ["<image>\nWhat?", "What?\n<image>"])
def test_conversations_about_a_picture(tmp_path: Path, pictures: Path, where: str) -> None:
    """Several turns; the mark is taken out of the first one, before or after the text."""
    path = write(tmp_path / "c.json", [spoken(where, "An owl.", "Sure?", "Yes.", image="birds/owl.png", id="000")])
    (found,) = read_conversations(str(path), pictures)
    texts = ((USER, "What?"), (ASSISTANT, "An owl."), (USER, "Sure?"), (ASSISTANT, "Yes."))
    assert found == Conversation("000", tuple(Turn(*turn) for turn in texts), pictures / "birds" / "owl.png")
    assert [request.text for request, _ in found.exchanges] == ["What?", "Sure?"]


def test_conversations_without_a_picture(tmp_path: Path) -> None:
    """Text alone is a conversation too."""
    path = write(tmp_path / "c.jsonl", [spoken("Hello.", "Hello to you.", image=None)])
    (found,) = read_conversations(str(path))
    assert (found.id, found.image) == ("0", None)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (spoken("<image>\nWhat?", "x", image=None), "has <image> in its first turn but names no picture"),
        (spoken("<image>\nWhat?", "x", "<image> And?", "y"), "elsewhere than once in the first turn"),
        (spoken("<image><image>\nWhat?", "x"), "elsewhere than once"),
        (spoken("What?", "<image>", image=None), "elsewhere than once"),
        (spoken("<image>", "x"), "nothing but <image>"),
        (spoken("<image>\nWhat?", "x", "And?"), "ends with turn 2 of the user"),
        (spoken("<image>\nWhat?", "", image="a.png"), "no text in 'value'"),
        (spoken("<image>\nWhat?", "x", image="b.png"), r"a picture that is missing: .*b\.png"),
        (spoken("<image>\nWhat?", "x", image="../outside.png"), "outside the image folder"),
        (spoken("<image>\nWhat?", "x", image="/etc/passwd"), "outside the image folder"),
        (spoken("<image>\nWhat?", "x", image="link.png"), "outside the image folder, through a link"),
        (spoken("<image>\nWhat?", "x", image="birds"), "missing"),
        (spoken("<image>\nWhat?", "x", image=["a.png", "b.png"]), "2 pictures in 'image'"),
        (spoken("<image>\nWhat?", "x", image=[]), "has <image> in its first turn but names no picture"),
        (spoken("<image>\nWhat?", "x", image=3), "a number in 'image'"),
        (spoken("<image>\nWhat?", "x", image="birds\\owl.png"), "as Windows does"),
        ({"conversations": []}, "no list of turns"),
        ({"conversations": ["x", "y"]}, "is text where an object belongs"),
        ({"conversations": [{"from": "gpt", "value": "x"}] * 2}, "turn 0 from 'gpt' where the user is next"),
        ({"conversations": [{"from": "system", "value": "x"}] * 2}, "turn 1 from 'system'"),
        ({"conversations": [{"value": "x"}] * 2}, "has no 'from'"),
    ],
)
def test_bad_conversations(tmp_path: Path, pictures: Path, record: Any, said: str) -> None:
    """Mark and picture belong together, roles take turns, no path leaves the folder; the record is named."""
    path = write(tmp_path / "c.json", [spoken("<image>\nWhat?", "x"), record])
    with pytest.raises(UserError, match=f"record 1: .*{said}"):
        read_conversations(str(path), pictures)


# Tables


def test_a_folder_of_pictures_with_a_table(pictures: Path) -> None:
    """CSV with a spreadsheet's byte-order mark, quoted commas and line breaks; a row without picture; other columns."""
    rows = 'image,question,answer,source\na.png,"What, then?","An\nowl.",1\n,Why?,So.,2\n'
    (pictures / "table.csv").write_text("\ufeff" + rows, encoding="utf-8")
    expected = [
        Conversation("0", (Turn(USER, "What, then?"), Turn(ASSISTANT, "An\nowl.")), pictures / "a.png"),
        Conversation("1", (Turn(USER, "Why?"), Turn(ASSISTANT, "So.")), None),
    ]
    assert read_conversations(str(pictures / "table.csv")) == expected
    records = [
        {"image": "a.png", "question": "What, then?", "answer": "An\nowl."},
        {"image": None, "question": "Why?", "answer": "So."},
    ]
    assert read_conversations(str(write(pictures / "table.jsonl", records))) == expected


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("image,question\na.png,What?\n", "no column holds the answer"),
        ("image,qestion,answer\na.png,What?,x\n", "no column holds the question, did you mean 'qestion'"),
        ("", "is empty"),
        ("image,question,question,answer\na.png,What?,x,y\n", "two columns are called 'question'"),
        ("image,picture,question,answer\na.png,a.png,What?,x\n", "'image' and 'picture' could both be the image"),
        ("image,question,answer,note\na.png,What?,x,y\n", "not known what 'note' holds.*ignore=note"),
        ("image,question,answer\n", "is empty"),
        ("image,question,answer\na.png,What?,x\na.png,What?\n", "line 3: fewer cells than columns"),
        ("image,question,answer\na.png,What, then?,x\n", "line 2: more cells than columns"),
        ("image,question,answer\na.png,,x\n", "line 2: has no text in 'question'"),
        ("image,question,answer\na.png,What?, \n", "line 2: has no text in 'answer'"),
        ("image,question,answer\nb.png,What?,x\n", "line 2: names a picture that is missing"),
        ("image,question,answer\n../outside.png,What?,x\n", "outside the image folder"),
        ('image,question,answer\na.png,"What?,x\n', "not CSV"),
        ('image,question,answer\na.png,"What?"x,y\n', "line 2: not CSV"),
    ],
)
def test_bad_tables(pictures: Path, content: str, said: str) -> None:
    """The line is named, with what is missing or where it leads."""
    path = write(pictures / "table.csv", content)
    with pytest.raises(UserError, match=said):
        read_conversations(str(path))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text("ab/.\\:~\0\n", max_size=8))
@example("a/b")
@example("a/../a/b")
@example("./a/b")
@example("a//b")
@example("b")
@example("../a")
def test_no_name_leaves_the_folder(tmp_path: Path, name: str) -> None:
    """Whatever a record names is a file inside the image folder or refused."""
    folder = tmp_path / "images"
    (folder / "a").mkdir(parents=True, exist_ok=True)
    (folder / "a" / "b").touch()
    (tmp_path / "a").touch()
    path = write(tmp_path / "t.jsonl", [{"image": name, "question": "x", "answer": "y"}])
    inside = ("a/b", "./a/b", "a//b", "a/../a/b", "b")
    if name in inside or not name.strip():
        assert read_conversations(str(path), folder)[0].image == (folder / "a" / "b" if name.strip() else None)
        return
    with contextlib.suppress(UserError):
        # Other spellings of the same file are welcome; nothing else is.
        assert read_conversations(str(path), folder)[0].image == folder / "a" / "b"
