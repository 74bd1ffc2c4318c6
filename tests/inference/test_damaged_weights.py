"""A model whose weights are no numbers says so, in whatever way it is asked, and chooses nothing."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mm_adapter.core.errors import UserError
from mm_adapter.inference.decoding import DecodingBatch, Row
from mm_adapter.inference.generation import Sampling
from mm_adapter.model import MultimodalLlama


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> MultimodalLlama:
    """The tiny model with a matrix that is not finite."""
    folder = shutil.copytree(tiny_folder, tmp_path_factory.mktemp("damaged") / "model")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.2.mlp.up_proj.weight"].fill_(float("nan"))
    save_file(tensors, folder / "model.safetensors")
    return MultimodalLlama.from_pretrained(str(folder))


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(1.0), Sampling(1.0, top_p=0.5)])
def test_nothing_is_written(damaged: MultimodalLlama, sampling: Sampling) -> None:
    with pytest.raises(UserError, match="values that are not finite"):
        damaged.generate(["Once"], max_new_tokens=2, sampling=sampling)
    batch = DecodingBatch(damaged.llama)
    with pytest.raises(UserError, match="values that are not finite"):
        batch.join([Row([5, 6], frozenset(), 2, None, sampling)])


def test_nothing_is_chosen(damaged: MultimodalLlama) -> None:
    with pytest.raises(UserError, match="values that are not finite"):
        damaged.answer("Which?", choices=["one", "two"])


def test_a_matrix_of_zeros_is_none_of_these(damaged: MultimodalLlama) -> None:
    """Numbers are numbers, however little they say."""
    logits = torch.zeros(1, 9)
    assert int(Sampling().choose(logits, [[]])) == 0
