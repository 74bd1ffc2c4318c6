"""Small image towers, from files written here, and pictures."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from mm_adapter.vision import ImageTower, VisionConfig


@pytest.fixture(scope="session")
def tower_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of timm's smallest convolutional network."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("tower") / "weights.pth"
    torch.save(timm.create_model("test_efficientnet", num_classes=0).state_dict(), path)
    return path


@pytest.fixture(scope="session")
def small_tower(tower_file: Path) -> ImageTower:
    """A tower that takes milliseconds."""
    return ImageTower(VisionConfig(f"timm:test_efficientnet/{tower_file}"))


@pytest.fixture
def make_picture(tmp_path: Path) -> Callable[..., Path]:
    """Write a picture of noise; the same seed gives the same file content."""

    def make(name: str, seed: int = 0) -> Path:
        pixels = np.random.default_rng(seed).integers(0, 255, (40, 60, 3), dtype=np.uint8)
        path = tmp_path / "pictures" / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
        return path

    return make
