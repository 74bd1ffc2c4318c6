"""Memory by kind, against real optimisers, gradients and stored weights."""

import copy
from dataclasses import replace

import pytest
import torch
from planning_cases import SHAPE, Case, make_case

from mm_adapter.llama import LlamaConfig
from mm_adapter.planning.devices import find_device
from mm_adapter.planning.image_costs import NO_TOWER, TowerShape
from mm_adapter.planning.measurement import measure, short_run
from mm_adapter.planning.memory import plan_memory, weight_bytes, weights_on_device
from mm_adapter.planning.parameters import count_parameters
from mm_adapter.planning.plan import make_plan
from mm_adapter.planning.shapes import BaseShape
from mm_adapter.planning.workload import make_workload
from mm_adapter.training.config import TrainingConfig
from mm_adapter.training.step import build_optimizer

BASE = BaseShape("tiny", SHAPE)


def test_optimiser_and_gradients_are_exact(case: Case) -> None:
    """Bytes of moments and gradients after a real step are those of the plan, counters of single steps apart."""
    config, trained = case.sizes.config, case.model.trained
    assert trained is not None
    optimizer = build_optimizer(trained, config)
    case.task.losses(range(3), None).sum().backward()
    gradients = sum(weight.grad.nbytes for weight in trained.parameters() if weight.grad is not None)
    optimizer.step()
    moments = [value for state in optimizer.state.values() for name, value in state.items() if name != "step"]
    parameters = count_parameters(SHAPE, config, case.sizes.tower)
    load = replace(case.sizes.load, rank_questions=2 * case.sizes.load.questions)
    planned = plan_memory(BASE, config, parameters, load, "cpu", tower=case.sizes.tower)
    assert planned.device["optimiser"] == sum(value.nbytes for value in moments)
    assert parameters.total_trained * 4 == gradients


def test_weights_are_those_of_the_model(case: Case) -> None:
    """The base, as it lies in memory in its dtype, and what is trained beside it."""
    model, config = case.model, case.sizes.config
    stored = sum(weight.nbytes for weight in model.llama.parameters() if not weight.requires_grad)
    stored += sum(weight.nbytes for weight in model.trained.parameters()) if model.trained is not None else 0
    parameters = count_parameters(SHAPE, config, case.sizes.tower)
    planned = plan_memory(BASE, config, parameters, case.sizes.load, "cpu", tower=case.sizes.tower)
    assert planned.device["weights"] == stored


def test_quantised_weights_are_smaller() -> None:
    """Bytes a weight of 7B: about 2, then 1 and a scale a row, then half and a scale every 64."""
    from mm_adapter.planning.shapes import SHAPES

    base = BaseShape("llama-7b", SHAPES["llama-7b"])
    found = {}
    for kind in ("none", "int8", "int4", "blocks"):
        held = weight_bytes(base, TrainingConfig(dtype="bfloat16", quantization=kind))
        found[kind] = (32 * held.layer + held.rest) / 6_738_415_616
    assert found == {
        "none": 2.0,
        "int8": pytest.approx(1.001, abs=1e-3),
        "int4": pytest.approx(0.58, abs=5e-3),
        "blocks": pytest.approx(0.606, abs=5e-3),
    }


def test_sharding_and_offloading_move_layers() -> None:
    """Each of four ranks holds a quarter of the layers and two whole ones; offloaded, all of them are the host's."""
    config = TrainingConfig(layers=2, vision="none")
    held = weight_bytes(BASE, config)
    assert weights_on_device(BASE, config, 4) == (4 * held.layer + held.rest, 0)
    sharded = replace(config, sharding="full")
    assert weights_on_device(BASE, sharded, 4) == (held.layer + 2 * held.layer + held.rest, 0)
    device, host = weights_on_device(BASE, replace(config, offload=True), 1)
    assert host == 4 * held.layer
    assert held.rest < device < held.rest + 2 * held.layer


def test_the_fewer_are_kept_the_less_memory() -> None:
    """Checkpointing, smaller passes and half precision on a GPU each lower the peak."""
    config = TrainingConfig(layers=4, vision="none", dtype="float32")
    case = make_case(LlamaConfig(300, 96, 4, 6, 6, 16, 256), layers=4)
    base = BaseShape("tiny", case.sizes.base)
    parameters = count_parameters(base.config, config, NO_TOWER)
    large = replace(case.sizes.load, questions=64, predicting=2)

    def peak(changed: TrainingConfig, questions: int = 64) -> int:
        load = replace(large, questions=questions)
        moments = copy.copy(plan_memory(base, changed, parameters, load, "cuda").device)
        return moments["activations"] + moments["work"]

    assert peak(replace(config, gradient_checkpointing=True)) < 0.6 * peak(config)
    assert peak(config, 128) > 1.5 * peak(config)
    assert peak(replace(config, dtype="bfloat16")) < 0.6 * peak(config)


def test_a_plan_allocates_nothing() -> None:
    """A model that no machine holds is planned for in a moment."""
    from mm_adapter.planning.devices import find_device
    from mm_adapter.planning.image_costs import TowerShape
    from mm_adapter.planning.workload import make_workload

    vast = BaseShape("vast", LlamaConfig(1 << 20, 1 << 16, 500, 512, 512, 128, 1 << 18))
    config = TrainingConfig(vision="none", dtype="bfloat16")
    plan = make_plan(vast, config, find_device("h100"), make_workload(config), TowerShape(0, 0))
    assert plan.memory.peak > 1e13
    assert not plan.fits
    assert torch.get_default_dtype() == torch.float32


def test_a_measured_run_fills_a_pass_of_held_out_questions() -> None:
    """Validation may be the fullest moment, so what is measured has to go through it as real runs do."""
    shape = LlamaConfig(4000, 256, 2, 4, 4, 64, 512)
    config = TrainingConfig(vision="none", layers=1, batch_size=2, token_budget=128, base_lr=0.1)
    load = make_workload(config, question_tokens=32, answer_tokens=30)
    plan = make_plan(BaseShape("random", shape), config, find_device("cpu"), load, TowerShape(0, 0))
    assert plan.memory.phase == "validation"
    found = measure(short_run(plan))
    assert found.peak_memory > 0.75 * plan.memory.device["work"]
