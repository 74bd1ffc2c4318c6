"""Every kind of parameter has its own rate and decay, and the schedule is warm-up and cosine."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mm_adapter.adapter import Adapter, AdapterConfig
from mm_adapter.training.config import TrainingConfig
from mm_adapter.training.step import ExponentialMovingAverage, build_optimizer, lr_schedule, set_lr


def test_groups_have_their_rates_and_gates_no_decay(tiny_config):
    """Gates: four times the rate and no decay; the projection: its own factor; the rate scales with the batch."""
    adapter = Adapter(AdapterConfig(2, 3, image_size=8, bottleneck=4), tiny_config)
    config = TrainingConfig(base_lr=0.04, batch_size=32, gate_lr_scale=4.0, projection_lr_scale=0.3, weight_decay=0.02)
    assert config.lr == pytest.approx(0.04 * 32 / 256)
    prompts, gates, projection = build_optimizer(adapter, config).param_groups
    assert [group["peak"] / config.lr for group in (prompts, gates, projection)] == pytest.approx([1, 4, 0.3])
    assert [group["weight_decay"] for group in (prompts, gates, projection)] == [0.02, 0.0, 0.02]
    assert prompts["params"] == [adapter.prompts]
    assert gates["params"] == [adapter.gates]
    assert sum(len(group["params"]) for group in (prompts, gates, projection)) == len(list(adapter.parameters()))


def test_gates_do_not_decay(tiny_config):
    """With gradients of zero, prompts shrink and gates stay where they are."""
    adapter = Adapter(AdapterConfig(2, 3), tiny_config)
    torch.nn.init.ones_(adapter.gates)
    before = adapter.prompts.detach().clone()
    optimizer = build_optimizer(adapter, TrainingConfig(weight_decay=0.5))
    set_lr(optimizer, 1.0)
    for parameter in adapter.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert bool((adapter.gates == 1).all())
    assert float(adapter.prompts.detach().norm()) < float(before.norm())


def test_random_init_has_no_gate_group(tiny_config):
    """The ablation has no gates to train."""
    adapter = Adapter(AdapterConfig(2, 3, "random-init"), tiny_config)
    assert len(build_optimizer(adapter, TrainingConfig()).param_groups) == 1


@given(st.integers(1, 300), st.integers(0, 300))
def test_schedule_rises_then_falls(total, warmup):
    """Linear to the peak at the end of the warm-up, then down along a cosine, never outside (0, 1]."""
    warmup = min(warmup, total)
    shares = [lr_schedule(step, total, warmup) for step in range(total)]
    assert all(0 < share <= 1 for share in shares)
    assert shares[:warmup] == sorted(shares[:warmup])
    assert shares[warmup:] == sorted(shares[warmup:], reverse=True)
    assert max(shares) == 1.0


def test_schedule_values():
    """Known points: half of the warm-up, peak, half of the cosine, its end."""
    assert [lr_schedule(step, 12, 4) for step in (1, 3, 4, 8, 12)] == pytest.approx([0.5, 1.0, 1.0, 0.5, 0.0])


def test_average_follows_the_weights(tiny_config):
    """The first updates count more; a decay that is reached holds; the adapter itself is not touched."""
    adapter = Adapter(AdapterConfig(1, 2), tiny_config)
    average = ExponentialMovingAverage(adapter, 0.5)
    start = adapter.prompts.detach().clone()
    with torch.no_grad():
        adapter.prompts += 1
    average.update(adapter)
    assert torch.allclose(average.weights["prompts"], start + (1 - 2 / 11))
    for _ in range(60):
        average.update(adapter)
    assert torch.allclose(average.weights["prompts"], adapter.prompts)
    assert torch.equal(adapter.prompts.detach(), start + 1)
