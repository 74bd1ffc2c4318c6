"""Grids of runs of a second, and results that were never run."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from mm_adapter.ablation.result import PointResult
from mm_adapter.training.config import TrainingConfig

BASE = """
train_questions = 12
val_questions = 4
test_questions = 6

[base]
llama = {llama!r}
vision = "none"
layers = 2
prompt_length = 3
epochs = 2.0
warmup_epochs = 0.0
batch_size = 4
base_lr = 0.5
max_length = 700
save_steps = 1
"""


@pytest.fixture
def write_grid(tmp_path: Path, tiny_folder: Path) -> Callable[..., str]:
    """Return a function that writes a grid of tiny text-only runs and returns its path; ``base`` adds settings."""

    def write(axes: str, base: str = "", name: str = "tiny") -> str:
        path = tmp_path / f"{name}.toml"
        path.write_text(f"{BASE.format(llama=str(tiny_folder))}{base}\n[grid]\n{axes}\n")
        return str(path)

    return write


def make_result(accuracy: float, **values: Any) -> PointResult:
    """A result as if a run had come to it; ``values`` are its place in the grid."""
    settings = {key: value for key, value in values.items() if key != "images"}
    config = asdict(TrainingConfig(**settings))
    return PointResult(
        ",".join(f"{key}={value}" for key, value in values.items()),
        values,
        config,
        "test",
        {"acc_average": accuracy, "acc_natural": accuracy + 1, "acc_social": None},
        train_loss=1.0 + accuracy / 100,
        val_loss=0.5,
        val_accuracy=accuracy - 1,
        trained_parameters=1234,
        train_seconds=2.0,
        seconds=3.0,
    )


@pytest.fixture(name="make_result")
def result_maker() -> Callable[..., PointResult]:
    return make_result
