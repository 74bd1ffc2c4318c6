"""Questions that the evaluation's tests share."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mm_adapter.data.question import Question

SHARED = Path(__file__).resolve().parents[3] / "shared"


@pytest.fixture
def questions() -> list[Question]:
    """Four questions: natural with picture, social with text, language with neither, and one with two kinds."""
    return [
        Question("a", "Which is it?", ("x", "y"), 0, "", Path("a.png"), "natural science", "physics", "c", "s", 1),
        Question("b", "Who?", ("x", "y", "z"), 2, "Text.", None, "social science", "civics", "c", "t", 7),
        Question("c", "What?", ("x", "y"), 1, "", None, "language science", "verbs", "d", "t", 12),
        Question("d", "Why?", ("x", "y"), 1, "Text.", Path("d.png"), "natural science", "biology", "", "s", 0),
    ]


@pytest.fixture(scope="session")
def official_folder() -> Path:
    """The reference scores of the original evaluator, which are not part of the project."""
    folder = SHARED / "parity" / "scienceqa_eval"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here: the original evaluator's reference scores come with the workplace")
    return folder


@pytest.fixture(scope="session")
def official_questions(official_folder: Path) -> list[Question]:
    """The questions of the reference scores, read here so that no reader's fault can hide one of the metrics."""
    problems = json.loads((official_folder / "problems.json").read_text(encoding="utf-8"))
    return [
        Question(
            pid=pid,
            question=problem["question"],
            options=tuple(problem["choices"]),
            answer=problem["answer"],
            context=problem["hint"],
            image=Path(problem["image"]) if problem["image"] else None,
            subject=problem["subject"],
            topic=problem["topic"],
            category=problem["category"],
            skill=problem["skill"],
            grade=int(problem["grade"].removeprefix("grade")),
            split=problem["split"],
        )
        for pid, problem in problems.items()
    ]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that writes a predictions file with a name that tells nothing of its format."""

    def write_file(text: str) -> Path:
        path = tmp_path / "predictions"
        path.write_text(text, encoding="utf-8")
        return path

    return write_file
