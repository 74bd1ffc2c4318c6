"""The hub's parquet layout gives the same questions as the official folder, with the pictures kept by their content."""

import hashlib
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image
from scienceqa_records import problem

from mm_adapter.core.errors import UserError
from mm_adapter.core.images import content_hash, open_image
from mm_adapter.data.readers import read_dataset


@pytest.fixture(autouse=True)
def own_caches(tmp_path, monkeypatch):
    monkeypatch.setenv("MM_ADAPTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")


def png(colour: str) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (4, 3), colour).save(buffer, "PNG")
    return buffer.getvalue()


def row(picture: bytes | None = None, **changes: Any) -> dict[str, Any]:
    record = problem(image=picture and {"bytes": picture, "path": None}, **changes)
    record.pop("split")
    return record


def write(folder: Path, split: str, rows: list[dict[str, Any]], image: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    table = datasets.Dataset.from_list(rows)
    if image:
        table = table.cast_column("image", datasets.Image())
    table.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder


def test_fields_splits_and_pictures_arrive(tmp_path):
    folder = tmp_path / "hub"
    write(folder / "data", "train", [row(png("red")), row(answer=2)])
    write(folder / "data", "validation", [row(png("red"), hint="Look.")])
    write(folder / "data", "test", [row(png("blue"))])
    dataset = read_dataset(str(folder))
    assert {name: [q.pid for q in dataset.split(name)] for name in dataset.splits} == {
        "train": ["train-0", "train-1"],
        "val": ["val-0"],
        "test": ["test-0"],
    }
    first, second, third, fourth = dataset.questions
    assert (first.options, first.answer, first.grade, first.split) == (("owl", "cow", "cod"), 0, 4, "train")
    assert (second.answer, second.image, third.context) == (2, None, "Look.")
    assert first.image == third.image != fourth.image
    assert first.image is not None
    assert open_image(first.image).getpixel((0, 0)) == (255, 0, 0)
    assert content_hash(first.image) == first.image.name == hashlib.sha256(png("red")).hexdigest()
    assert tmp_path / "cache" in first.image.parents


def test_picture_is_written_once(tmp_path):
    folder = write(tmp_path / "hub", "test", [row(png("red"))])
    (question,) = read_dataset(str(folder)).questions
    assert question.image is not None
    before = question.image.stat().st_mtime_ns
    assert read_dataset(str(folder)).questions == (question,)
    assert question.image.stat().st_mtime_ns == before
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == [question.image]


def test_pid_column_is_used(tmp_path):
    folder = write(tmp_path / "hub", "train", [row(pid="7"), row(pid="9")], image=False)
    assert [question.pid for question in read_dataset(str(folder)).questions] == ["7", "9"]


def test_same_pid_twice_is_bad(tmp_path):
    folder = write(tmp_path / "hub", "train", [row(pid=1), row(pid=2)], image=False)
    write(folder, "test", [row(pid=1)], image=False)
    with pytest.raises(UserError, match="question '1': is there twice"):
        read_dataset(str(folder))
    dataset = read_dataset(str(folder), skip_bad=True)
    assert list(dataset.skipped("train")) == list(dataset.skipped("test")) == ["1"]
    assert [question.pid for question in dataset.questions] == ["2"]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (row(answer=3), "out of range"),
        (row(choices=["a"]), "only one option"),
        (row(question=""), "no text in 'question'"),
        ({**row(), "image": {"bytes": None, "path": "/etc/passwd"}}, "picture outside the image folder"),
        ({**row(), "image": {"bytes": b"", "path": None}}, "picture without its bytes"),
    ],
)
def test_bad_row_is_refused_by_name_and_skipped_on_request(tmp_path, bad, reason):
    folder = write(tmp_path / "hub", "test", [row(png("red")), bad])
    with pytest.raises(UserError, match="question 'test-1'") as error:
        read_dataset(str(folder))
    assert reason in str(error.value)
    dataset = read_dataset(str(folder), skip_bad=True)
    assert list(dataset.skipped("test")) == ["test-1"]
    assert len(dataset.split("test")) == 1


def test_plain_struct_of_bytes_is_read_like_the_image_feature(tmp_path):
    folder = write(tmp_path / "hub", "test", [row(png("red"))], image=False)
    (question,) = read_dataset(str(folder)).questions
    assert question.image is not None


def test_bytes_that_are_no_picture_are_not_decoded_while_reading(tmp_path):
    folder = write(tmp_path / "hub", "test", [row(b"no picture")])
    (question,) = read_dataset(str(folder)).questions
    assert question.image is not None
    with pytest.raises(UserError, match="not an image"):
        open_image(question.image)


def test_damaged_parquet_is_refused(tmp_path):
    folder = write(tmp_path / "hub", "test", [row(png("red"))])
    path = folder / "test-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match="cannot be loaded, a damaged file"):
        read_dataset(str(folder))


def test_folder_without_named_splits_is_one_table_or_refused(tmp_path):
    write(tmp_path / "hub", "other", [row(), row()])
    assert len(read_dataset(str(tmp_path / "hub")).split("all")) == 2
    write(tmp_path / "hub", "another", [row()])
    with pytest.raises(UserError, match="which of its 2 tables is meant"):
        read_dataset(str(tmp_path / "hub"))


def test_hub_id_is_loaded_through_the_library(tmp_path, monkeypatch):
    loaded = datasets.DatasetDict({"validation": datasets.Dataset.from_list([row(png("red"))])})
    asked = []
    monkeypatch.setattr(datasets, "load_dataset", lambda name: asked.append(name) or loaded)
    dataset = read_dataset("derek-thomas/ScienceQA")
    assert asked == ["derek-thomas/ScienceQA"]
    assert [question.pid for question in dataset.split("val")] == ["val-0"]


def test_hub_without_network_is_a_user_error(monkeypatch):
    def fail(_name: str) -> None:
        raise ConnectionError("Couldn't reach the Hub")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(UserError, match=r"hub:owner/name: .*not to be had from the hub \(Couldn't reach the Hub\)"):
        read_dataset("hub:owner/name")


def test_old_library_is_told_to_run_no_script(monkeypatch):
    asked = {}

    def load(_name: str, trust_remote_code: bool = True) -> dict[str, Any]:
        asked["trust"] = trust_remote_code
        return {}

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(UserError, match="no column holds"):
        read_dataset("hub:owner/name")
    assert asked == {"trust": False}
