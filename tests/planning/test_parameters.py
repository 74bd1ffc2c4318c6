"""Parameters are counted exactly, without a model."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_adapter.adapter import Adapter, AdapterConfig
from mm_adapter.adapter.finetune import FinetuneConfig, prepare_finetuning
from mm_adapter.core.errors import UserError
from mm_adapter.llama import Llama, LlamaConfig
from mm_adapter.planning.image_costs import NO_TOWER, TowerShape
from mm_adapter.planning.parameters import count_parameters
from mm_adapter.planning.shapes import SHAPES
from mm_adapter.training.config import TrainingConfig
from mm_adapter.training.run import adapter_config

# Of the published models: LLaMA (arXiv 2302.13971, table 2), Llama 3 and SmolLM2 as their files have them.
PUBLISHED = {"llama-7b": 6.7e9, "llama-13b": 13.0e9, "llama-70b": 69.0e9, "llama-3-8b": 8.0e9, "smollm2-135m": 134.5e6}


@st.composite
def shapes(draw: st.DrawFn) -> LlamaConfig:
    """Tiny decoders of every kind: grouped queries or not, tied or not, with biases or without."""
    groups, sharing, half = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 4))
    return LlamaConfig(
        vocab_size=draw(st.integers(10, 80)),
        hidden_size=draw(st.integers(4, 40)),
        num_layers=draw(st.integers(1, 4)),
        num_heads=groups * sharing,
        num_kv_heads=groups,
        head_dim=2 * half,
        intermediate_size=draw(st.integers(3, 50)),
        tied_embeddings=draw(st.booleans()),
        attention_bias=draw(st.booleans()),
    )


def numbers(module: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


@settings(max_examples=40, deadline=None)
@given(shape=shapes(), data=st.data())
def test_adapter_and_base_are_those_of_the_built_model(shape: LlamaConfig, data: st.DataObject) -> None:
    """Any shape, any adapter: both counts are those of modules that were made."""
    kind = AdapterConfig(
        data.draw(st.integers(1, shape.num_layers)),
        data.draw(st.integers(1, 5)),
        data.draw(st.sampled_from(("zero-init", "random-init"))),
        data.draw(st.sampled_from((0, 7, 20))),
        data.draw(st.integers(1, 6)),
    )
    values = {"layers": kind.layers, "prompt_length": kind.prompt_length, "attention": kind.attention}
    counted = count_parameters(
        shape, TrainingConfig(**values, bottleneck=kind.bottleneck), TowerShape(kind.image_size, 0)
    )
    adapter = Adapter(kind, shape)
    assert counted.frozen == numbers(Llama(shape))
    assert counted.trained == {
        name: sum(weight.numel() for weight in members) for name, members in adapter.parameter_groups().items()
    }
    assert counted.largest == max(weight.numel() for weight in adapter.parameters())


@settings(max_examples=15, deadline=None)
@given(shape=shapes(), rank=st.integers(1, 4), method=st.sampled_from(("lora", "full")))
def test_updates_are_those_of_the_built_model(shape: LlamaConfig, rank: int, method: str) -> None:
    """The methods that the adapter is compared with."""
    model = Llama(shape)
    update = prepare_finetuning(model, FinetuneConfig(method, rank))
    counted = count_parameters(shape, TrainingConfig(method=method, lora_rank=rank, vision="none"), NO_TOWER)
    frozen = sum(weight.numel() for weight in model.parameters() if not weight.requires_grad)
    assert (counted.total_trained, counted.frozen) == (numbers(update), frozen)
    assert counted.largest == max(weight.numel() for weight in update.parameters())


@pytest.mark.parametrize("name", SHAPES)
def test_named_shapes_have_the_published_sizes(name: str) -> None:
    """Every built-in name, counted on a model without memory."""
    with torch.device("meta"):
        built = numbers(Llama(SHAPES[name]))
    assert count_parameters(SHAPES[name], TrainingConfig(layers=1), NO_TOWER).frozen == built
    assert built == pytest.approx(PUBLISHED[name], rel=0.01)


def test_the_papers_adapter_of_7b() -> None:
    """30 layers of 10 prompts of 4096, and 32 gates each: the 1.2 million of the paper's title."""
    settings: dict[str, Any] = {"layers": 30, "prompt_length": 10, "vision": "none"}
    assert count_parameters(SHAPES["llama-7b"], TrainingConfig(**settings), NO_TOWER).total_trained == 1_229_760


def test_more_layers_than_there_are() -> None:
    """Refused with the number that there is."""
    with pytest.raises(UserError, match=r"layers is 15, the model has 4"):
        count_parameters(LlamaConfig(10, 8, 4, 2, 2, 4, 8), TrainingConfig(layers=15), NO_TOWER)


@settings(max_examples=30, deadline=None)
@given(shape=shapes(), data=st.data())
def test_pictures_that_are_prompts_of_their_own(shape: LlamaConfig, data: st.DataObject) -> None:
    """Pieces behind gates of their own, and learned queries: the counts are those of the built adapter."""
    values: dict[str, Any] = {
        "layers": data.draw(st.integers(1, shape.num_layers)),
        "prompt_length": data.draw(st.integers(1, 5)),
        "method": data.draw(st.sampled_from(("adapter", "adapter-v2"))),
        "image_prompts": data.draw(st.sampled_from(("tiles", "query"))),
        "query_width": data.draw(st.integers(1, 200)),
        "query_blocks": data.draw(st.integers(0, 3)),
    }
    pieces = tuple(data.draw(st.lists(st.integers(1, 20), min_size=1, max_size=5)))
    config, tower = TrainingConfig(**values), TowerShape(sum(pieces), 0, pieces, 7)
    counted = count_parameters(shape, config, tower)
    adapter = Adapter(adapter_config(config, tower.features, pieces), shape)
    assert counted.trained == {
        name: sum(weight.numel() for weight in members) for name, members in adapter.parameter_groups().items()
    }
    assert counted.largest == max(weight.numel() for weight in adapter.parameters())
