"""What ranks send is what distributed training sends."""

import math
from typing import Any

import pytest
from planning_cases import SHAPE
from test_fitting import plan_of

from mm_adapter.planning.communication import plan_communication
from mm_adapter.planning.devices import find_device
from mm_adapter.planning.image_costs import NO_TOWER, TowerShape
from mm_adapter.planning.memory import weight_bytes
from mm_adapter.planning.parameters import count_parameters
from mm_adapter.planning.reduction import reduced_bytes
from mm_adapter.planning.shapes import BaseShape
from mm_adapter.planning.workload import Workload
from mm_adapter.training.config import TrainingConfig

QUERY = {"image_prompts": "query", "query_width": 16}


@pytest.mark.parametrize(
    ("values", "tower"), [({}, TowerShape(33, 0)), ({"method": "lora"}, NO_TOWER), (QUERY, TowerShape(33, 0, tokens=6))]
)
def test_summed_bytes_are_those_of_ddp(values: dict[str, Any], tower: TowerShape) -> None:
    """Counted in the reduction of two real ranks."""
    config = TrainingConfig(**{"vision": "none", "layers": 2, **values})
    parameters = count_parameters(SHAPE, config, tower)
    base = BaseShape("tiny", SHAPE)
    planned = plan_communication(base, config, parameters, Workload(2, 24, 5), find_device("a100"), 2)
    assert planned.reduced == reduced_bytes(SHAPE, config, tower)
    assert planned.sent == planned.reduced


def test_sharded_layers_are_gathered_there_and_back() -> None:
    """Every layer on the way there, the adapted ones on the way back, in every pass; the ring sends 7 of 8 parts."""
    plan = plan_of("llama-70b", ranks=8, dtype="bfloat16", sharding="full", token_budget=1024)
    layer = weight_bytes(plan.base, plan.config).layer
    assert plan.load.passes == 2
    assert plan.communication.gathered == 2 * (80 + 30) * layer
    assert plan.communication.sent == (plan.communication.gathered + 2 * plan.communication.reduced) * 7 // 8
    assert 0 < plan.communication_share < 1


def test_one_rank_sends_nothing_and_more_of_them_are_sooner_done() -> None:
    """Time falls with ranks, by no more than their number."""
    one, eight = plan_of(ranks=1), plan_of(ranks=8)
    assert one.communication.sent == 0
    assert one.epoch_seconds / 8 <= eight.epoch_seconds < one.epoch_seconds
    # Prompts are projected once a pass, of however many questions.
    assert math.isclose(one.flops_per_question, eight.flops_per_question, rel_tol=1e-2)
