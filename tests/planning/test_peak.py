"""The fullest moment of a pass, against every allocation that PyTorch's profiler sees."""

import pytest
import torch
from planning_cases import CASES, make_case
from torch.profiler import ProfilerActivity, profile

from mm_adapter.llama import LlamaConfig
from mm_adapter.planning.memory import pass_moments
from mm_adapter.planning.synthetic import random_questions
from mm_adapter.planning.workload import Workload

# Wide enough that what is left out of the formulas, indices and single numbers, is little.
WIDE = LlamaConfig(2000, 192, 4, 6, 2, 32, 512, tied_embeddings=True)


@pytest.mark.parametrize("name", CASES)
def test_the_fullest_moment_of_a_pass(name: str) -> None:
    """Memory allocated within a pass, there and back, at its highest: within a tenth in every way of training."""
    values = {"layers": 3, **CASES[name]}
    case = make_case(WIDE, **values)
    examples = random_questions(8, 80, 20, WIDE.vocab_size, case.sizes.tower)
    case.task.train_set = examples
    object.__setattr__(case.sizes, "load", Workload(8, 80, 20))
    case.task.losses(range(8), None).sum().backward()  # gradients are there from now on, and libraries loaded
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        case.task.losses(range(8), None).sum().backward()
    held = peak = 0
    for event in seen.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]" and event.device_type() == torch.autograd.DeviceType.CPU:
            held += event.nbytes()
            peak = max(peak, held)
    moments = pass_moments(case.sizes, 0)
    # Gradients are summed into those of the first pass: new ones beside them, one after the other.
    planned = max(sum(held.values()) - held.get("gradients", 0) for held in moments.values())
    assert planned == pytest.approx(peak, rel=0.1)
