"""Optimiser and schedule of what is trained."""

import math

import torch
from torch import nn

from mm_adapter.adapter.adapter import Adapter
from mm_adapter.training.config import TrainingConfig
from mm_adapter.update import ModelUpdate


def make_optimizer(trained: Adapter | ModelUpdate, config: TrainingConfig) -> torch.optim.AdamW:
    """Return AdamW (arXiv 1711.05101) with a group per kind of parameter; each group's ``peak`` is its highest rate."""
    factors = {"gates": config.gate_rate, "projection": config.projection_rate}
    groups = [
        {
            "params": members,
            "lr": 0.0,
            "peak": config.rate * factors.get(kind, 1.0),
            # A gate that decays is a gate that closes again: zero is its start, not a prior.
            "weight_decay": 0.0 if kind == "gates" else config.weight_decay,
        }
        for kind, members in trained.parameter_groups().items()
    ]
    return torch.optim.AdamW(groups)


def schedule(step: int, total: int, warmup: int) -> float:
    """Return the share of the peak rate for ``step`` (from 0): linear warm-up, then a cosine to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def set_rate(optimizer: torch.optim.Optimizer, share: float) -> None:
    """Set every group's rate to ``share`` of its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * share


class AverageWeights:
    """Exponential moving average of the trained weights, free of the noise of single steps.

    Args:
        trained: whose weights are followed.
        decay: share of the average that stays at each step; early steps use less, so that the start is forgotten.
    """

    def __init__(self, trained: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.weights = {name: tensor.detach().clone() for name, tensor in trained.state_dict().items()}

    def update(self, trained: nn.Module) -> None:
        """Move the average towards the weights of now."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, tensor in trained.state_dict().items():
            self.weights[name].lerp_(tensor, 1 - decay)
