"""A pipe or a device in the place of a file is refused at once: waited for or read to its end, it would have none."""

import os
import threading
from pathlib import Path

import pytest

from mm_adapter.adapter.checkpoint import CONFIG_FILE, WEIGHTS_FILE, read_description, read_weights
from mm_adapter.core.errors import UserError
from mm_adapter.core.files import read_json, refuse_pointer
from mm_adapter.data.record import read_text
from mm_adapter.data.table_files import open_table
from mm_adapter.inference.inspection import inspect
from mm_adapter.llama.checkpoints.load import load_llama

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without pipes in its file system")


def pipe(path: Path) -> Path:
    """Put a pipe that nobody writes into in a file's place."""
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path


def test_json_in_a_pipe_or_a_device(tmp_path: Path) -> None:
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    for path in (pipe(tmp_path / "a.json"), tmp_path / "zero.json"):
        with pytest.raises(UserError, match=r"json: is a pipe or a device, not a file"):
            read_json(path, "configuration")
    refuse_pointer(tmp_path)  # a folder is left to whoever reads it
    refuse_pointer(tmp_path / "missing")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_model_with_a_pipe_in_it(tmp_path: Path, tiny_folder: Path, name: str) -> None:
    """Neither looking at it nor loading it waits; what is said names the folder."""
    folder = tmp_path / "model"
    folder.mkdir()
    for path in tiny_folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    pipe(folder / name)
    found = inspect(str(folder))
    if name == "tokenizer.json":
        assert load_llama(str(folder)).tokenizer is None  # as if it were not there
        return
    assert not found.usable
    with pytest.raises(UserError, match=str(folder)):
        load_llama(str(folder))


@pytest.mark.parametrize("name", [CONFIG_FILE, WEIGHTS_FILE])
def test_an_adapter_with_a_pipe_in_it(tmp_path: Path, name: str) -> None:
    saved = Path(__file__).resolve().parent.parent / "saved" / "text"
    for file in (CONFIG_FILE, WEIGHTS_FILE):
        (tmp_path / file).write_bytes((saved / file).read_bytes())
    pipe(tmp_path / name)
    with pytest.raises(UserError, match=f"{name}: is a pipe or a device"):
        read_description(tmp_path) if name == CONFIG_FILE else read_weights(tmp_path / name)
    assert not inspect(str(tmp_path)).usable


def test_a_table_is_no_pipe(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pipe or a device, no table"):
        open_table(str(pipe(tmp_path / "table.csv")))


def test_text_may_come_through_a_pipe_but_not_without_end(tmp_path: Path) -> None:
    """As a shell hands over what a command writes; a device that never ends is told so."""
    path = pipe(tmp_path / "prompts.txt")
    writer = threading.Thread(target=lambda: path.write_text("Hello\n"))
    writer.start()
    assert read_text(path, "the file of prompts") == "Hello\n"
    writer.join()
    with pytest.raises(UserError, match="is no file, and has over 64 MB"):
        read_text(Path("/dev/zero"), "the file of prompts")
