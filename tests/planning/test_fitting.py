"""What is said to fit fits, and nothing larger does."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_adapter.planning.devices import find_device
from mm_adapter.planning.fitting import largest_pass, suggest, with_pass
from mm_adapter.planning.image_costs import TowerShape
from mm_adapter.planning.plan import Plan, make_plan
from mm_adapter.planning.shapes import SHAPES, BaseShape
from mm_adapter.planning.workload import make_workload
from mm_adapter.training.config import TrainingConfig


def plan_of(name: str = "llama-7b", device: str = "a100", ranks: int = 1, tokens: int = 256, **values: Any) -> Plan:
    """Return a plan of a named shape."""
    memory = values.pop("memory", None)
    config = TrainingConfig(**{"vision": "none", "layers": 30, "batch_size": 64, "token_budget": 16384, **values})
    load = make_workload(config, ranks, question_tokens=tokens, answer_tokens=tokens // 3)
    return make_plan(BaseShape(name, SHAPES[name]), config, find_device(device, memory), load, TowerShape(0, 0), ranks)


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(list(SHAPES)),
    memory=st.floats(2, 200),
    tokens=st.integers(8, 512),
    dtype=st.sampled_from(("float32", "bfloat16")),
    checkpoint=st.booleans(),
)
def test_the_largest_pass_is_the_largest(name: str, memory: float, tokens: int, dtype: str, checkpoint: bool) -> None:
    """It fits, and one question more does not; where none fits, not even one does."""
    plan = plan_of(name, tokens=tokens, memory=memory, dtype=dtype, gradient_checkpointing=checkpoint)
    largest = largest_pass(plan)
    if largest:
        assert with_pass(plan, largest).fits
    assert not with_pass(plan, largest + 1).fits


@pytest.mark.parametrize(
    ("name", "device", "ranks", "values"),
    [
        ("llama-7b", "rtx-3090", 1, {}),
        ("llama-7b", "t4", 1, {"dtype": "float16"}),
        ("llama-13b", "rtx-4090", 2, {"dtype": "bfloat16"}),
        ("llama-70b", "a100", 8, {"dtype": "bfloat16"}),
        ("llama-70b", "rtx-3090", 1, {}),
        ("llama-3-8b", "l4", 1, {"method": "lora", "dtype": "bfloat16"}),
        ("smollm2-135m", "a100", 1, {"method": "full", "memory": 8}),
    ],
)
def test_every_suggestion_makes_it_fit(name: str, device: str, ranks: int, values: dict[str, Any]) -> None:
    """Planned anew from the settings alone, as the command would, each of them fits; none changes the method."""
    plan = plan_of(name, device, ranks, **values)
    assert not plan.fits
    found = suggest(plan)
    assert found
    for suggestion in found:
        config = replace(plan.config, **suggestion.changes)
        load = make_workload(config, ranks, question_tokens=256, answer_tokens=256 // 3)
        again = make_plan(plan.base, config, plan.device, load, plan.tower, ranks)
        assert again.fits, suggestion.options
        assert again.memory.peak == suggestion.plan.memory.peak


def test_what_fits_needs_no_suggestion_and_what_cannot_fit_has_none() -> None:
    """Nothing is suggested for a run that fits, nor where a model is too large for anything."""
    assert suggest(plan_of("smollm2-135m")) == []
    assert suggest(plan_of("llama-70b", "t4", method="full")) == []
