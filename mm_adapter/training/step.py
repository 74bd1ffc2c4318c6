"""One step of the optimiser on a global batch that any number of ranks share: order, schedule, gradients."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mm_adapter.adapter import Adapter
from mm_adapter.adapter.finetune import FinetunedWeights
from mm_adapter.distributed import DistributedContext
from mm_adapter.scoring.batching import token_batches
from mm_adapter.scoring.encoded_sets import HiddenStateCache
from mm_adapter.training.config import TrainingConfig
from mm_adapter.training.task import Task


def shuffled_steps(
    count: int, batch_size: int, generator: torch.Generator, weights: Tensor | None = None
) -> Iterator[list[int]]:
    """Yield one epoch of optimiser steps, each a list of up to ``batch_size`` indices below ``count``.

    Every index comes once; what a step learns from is random.

    Args:
        weights: ``(count,)``, draw as many indices, in proportion to these and with replacement.
    """
    if weights is None:
        order = torch.randperm(count, generator=generator).tolist()
    else:
        order = torch.multinomial(weights, count, replacement=True, generator=generator).tolist()
    for start in range(0, count, batch_size):
        yield order[start : start + batch_size]


def shard_by_length(indices: Sequence[int], lengths: Sequence[int], distributed: int) -> list[list[int]]:
    """Deal a step's sequences to ranks so that each has about as many tokens: the longest first, to whom has least.

    Args:
        indices: into ``lengths``, of one step.
        lengths: tokens of every sequence.
        distributed: how many share.

    Returns:
        The indices of each rank, in their order; empty where there are fewer sequences than ranks.
    """
    shares: list[list[int]] = [[] for _ in range(distributed)]
    tokens = [0] * distributed
    # Attention grows faster than tokens, so the longest must not meet on one rank.
    for place in sorted(range(len(indices)), key=lambda place: (-lengths[indices[place]], place)):
        rank = min(range(distributed), key=lambda rank: (tokens[rank], rank))
        shares[rank].append(place)
        tokens[rank] += lengths[indices[place]]
    return [[indices[place] for place in sorted(share)] for share in shares]


def micro_batches(indices: Sequence[int], lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Split a rank's share of a step into passes of at most ``token_budget`` tokens."""
    parts = token_batches([lengths[index] for index in indices], token_budget)
    return [[indices[place] for place in part] for part in parts]


def build_optimizer(trained: Adapter | FinetunedWeights, config: TrainingConfig) -> torch.optim.AdamW:
    """Return AdamW (arXiv 1711.05101) with a group per kind of parameter; each group's ``peak`` is its highest rate."""
    projection = config.projection_lr_scale
    factors = {"gates": config.gate_lr_scale, "projection": projection, "visual query": projection}
    factors["tuning"] = config.tuning_lr_scale
    groups = [
        {
            "params": members,
            "lr": 0.0,
            "peak": config.lr * factors.get(kind, 1.0),
            # A gate that decays is a gate that closes again, a norm one that scales to nothing.
            "weight_decay": 0.0 if kind in ("gates", "tuning") else config.weight_decay,
        }
        for kind, group in trained.parameter_groups().items()
        if (members := [parameter for parameter in group if parameter.requires_grad])
    ]
    return torch.optim.AdamW(groups)


def lr_schedule(step: int, total: int, warmup: int) -> float:
    """Return the share of the peak rate for ``step`` (from 0): linear warm-up, then a cosine to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def set_lr(optimizer: torch.optim.Optimizer, share: float) -> None:
    """Set every group's rate to ``share`` of its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * share


class ExponentialMovingAverage:
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


@dataclass(frozen=True)
class Outcome:
    """What became of a step.

    Attributes:
        loss: mean over the global batch.
        learned: false where nothing was changed, since the loss or its gradient was not finite.
        nonfinite: ids of the examples whose losses were not finite; all of the step where only the gradient was not.
        idle: share of the ranks' time in which some wait for the one with most tokens.
        summed: sums over ranks of what each handed in.
    """

    loss: float
    learned: bool
    nonfinite: tuple[str, ...]
    idle: float
    summed: tuple[float, ...]


class StepLosses(nn.Module):
    """The losses of examples, as a module whose parameters are those that are trained: all that DDP needs to watch."""

    def __init__(self, trained: Adapter | FinetunedWeights, task: Task, cache: HiddenStateCache | None) -> None:
        super().__init__()
        self.trained, self.task, self.cache = trained, task, cache

    def forward(self, indices: Sequence[int]) -> Tensor:
        """Return the loss of each example, ``(B,)``; one zero for none.

        Every trained tensor has a part in it, of no weight where the examples give it none (no picture, no projection):
        ranks reduce the same tensors, and what the optimiser does with them does not depend on who met which example.
        """
        nothing = (
            0.0
            * torch.stack([parameter.sum() for parameter in self.trained.parameters() if parameter.requires_grad]).sum()
        )
        return nothing[None] if not indices else self.task.losses(indices, self.cache) + nothing


class Stepper:
    """Computes gradients of the mean loss over a global batch, and moves the trained weights.

    Args:
        trained: the adapter, or what is trained in its place.
        task: gives the losses.
        cache: of states below the adapter.
        config: rates, clipping, tokens per pass.
        distributed: the processes among which a batch is shared out.
        lockstep: every rank makes as many passes as any other, since each pass gathers weights from all.
    """

    def __init__(
        self,
        trained: Adapter | FinetunedWeights,
        task: Task,
        cache: HiddenStateCache | None,
        config: TrainingConfig,
        distributed: DistributedContext,
        lockstep: bool = False,
    ) -> None:
        self.trained, self.task, self.config, self.distributed, self.lockstep = (
            trained,
            task,
            config,
            distributed,
            lockstep,
        )
        self.optimizer = build_optimizer(trained, config)
        device = next(trained.parameters()).device
        # Half-precision gradients of a mean over many tokens vanish; in bfloat16 they have the range of float32.
        self.scaler = torch.amp.GradScaler(device.type, init_scale=2.0**12, enabled=config.dtype == "float16")
        self.losses: nn.Module = StepLosses(trained, task, cache)
        self.reduced: DistributedDataParallel | None = None
        if distributed.world_size > 1:
            devices = [device.index] if device.type == "cuda" else None
            # One bucket, reduced in the last pass of a step, views of it as gradients: no copy, no needless message.
            self.reduced = DistributedDataParallel(self.losses, device_ids=devices, gradient_as_bucket_view=True)
            # After its first backward pass DDP lays its bucket out anew, and where a number lies decides the order in
            # which ranks are summed. Done before the first step, that order is the same in a run that is gone on with.
            self.reduced([]).sum().backward()
            self.optimizer.zero_grad(set_to_none=True)

    def passes(self, indices: Sequence[int]) -> tuple[list[list[int]], int]:
        """Return this rank's passes over a step's examples, and how many of them count."""
        shares = shard_by_length(indices, self.task.lengths, self.distributed.world_size)
        split = [micro_batches(share, self.task.lengths, self.config.token_budget) for share in shares]
        own = split[self.distributed.rank]
        if not self.lockstep:
            return own or [[]], len(own)
        shortest = min(indices, key=lambda index: self.task.lengths[index])
        return own + [[shortest]] * (max(map(len, split)) - len(own)), len(own)

    def step(self, indices: Sequence[int], extra: Sequence[float] = ()) -> Outcome:
        """Learn from the examples ``indices`` of the global batch, the same on all ranks.

        Args:
            extra: what this rank wants summed over ranks, on the way.
        """
        own, counted = self.passes(indices)
        loss, nonfinite = 0.0, list[str]()
        for number, batch in enumerate(own):
            module = self.losses if self.reduced is None else self.reduced
            waits = self.reduced is not None and number < len(own) - 1
            with self.reduced.no_sync() if waits and self.reduced is not None else contextlib.nullcontext():
                losses = module(batch)
                # DDP takes the mean over ranks of what is a sum over all of them.
                share = self.distributed.world_size / len(indices) if number < counted else 0.0
                self.scaler.scale(losses.sum() * share).backward()
            if number < counted:
                values = losses.tolist()
                loss += sum(values) / len(indices)
                nonfinite += [
                    self.task.pids[i] for i, value in zip(batch, values, strict=True) if not math.isfinite(value)
                ]
        loss, failed, *sums = self.distributed.sum([loss, len(nonfinite), *extra])
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.trained.parameters(), self.config.max_grad_norm or math.inf)
        learned = not failed and bool(norm.isfinite())
        # In half precision a scaled gradient may overflow: it is left out, and a smaller scale is tried.
        overflow = not failed and not learned and self.scaler.is_enabled() and self.scaler.get_scale() > 1
        if learned:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        elif self.scaler.is_enabled():
            self.scaler.update(self.scaler.get_scale() * (0.5 if overflow else 1.0))
        if not learned and not overflow:
            named = [pid for part in self.distributed.gather(nonfinite) for pid in part]
            nonfinite = named or [self.task.pids[index] for index in indices]
        self.optimizer.zero_grad(set_to_none=True)
        return Outcome(loss, learned or overflow, tuple(nonfinite), self._idle(indices), tuple(sums))

    def _idle(self, indices: Sequence[int]) -> float:
        if self.distributed.world_size == 1:
            return 0.0
        lengths = self.task.lengths
        tokens = [
            sum(lengths[i] for i in share) for share in shard_by_length(indices, lengths, self.distributed.world_size)
        ]
        return 1 - sum(tokens) / (len(tokens) * max(tokens))
