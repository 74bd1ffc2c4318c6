"""A small adapter that sees pictures, for the harnesses to ask."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from mm_adapter.adapter import Adapter, AdapterConfig
from mm_adapter.data.templates import Prompting
from mm_adapter.inference.prompting import ConversationPrompting
from mm_adapter.llama.checkpoints.load import load_llama
from mm_adapter.model import MultimodalLlama
from mm_adapter.vision import VisionConfig

Make = Callable[..., MultimodalLlama]


class MeanColour:
    """A tower whose features are the picture's mean colour."""

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        return torch.tensor(list(image.getdata()), dtype=torch.float32).mean(0)

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels / 100


@pytest.fixture
def make_model(tiny_folder: Path) -> Make:
    """Makes a model with open gates that sees pictures, asked as it is told."""

    def make(prompting: Prompting | ConversationPrompting | None = None) -> MultimodalLlama:
        base = load_llama(str(tiny_folder))
        adapter = Adapter(AdapterConfig(3, 4, image_size=3), base.model.config)
        assert adapter.gates is not None
        assert adapter.projection is not None
        torch.nn.init.constant_(adapter.gates, 1.0)
        torch.nn.init.normal_(adapter.projection.up.weight)  # a fresh one hardly tells pictures apart
        built = MultimodalLlama(base, adapter, VisionConfig("fake"), prompting)
        object.__setattr__(built, "_tower", MeanColour())
        return built

    return make
