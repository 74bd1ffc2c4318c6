"""A small ScienceQA folder to break in every way."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from scienceqa_records import problem


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write problems and splits (any JSON, or raw text) into a folder; by default 1, 2 train, 3 val, 4 test."""

    def make(problems: Any = None, splits: Any = None, name: str = "scienceqa") -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        if problems is None:
            problems = {pid: problem() for pid in "1234"}
        if splits is None:
            splits = {"train": ["2", "1"], "val": ["3"], "test": ["4"]}
        for file, value in (("problems.json", problems), ("pid_splits.json", splits)):
            (folder / file).write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
        return folder

    return make


@pytest.fixture
def put_image() -> Callable[..., Path]:
    def put(path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3), "red").save(path)
        return path

    return put
