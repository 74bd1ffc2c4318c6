"""In which order a run meets its examples, and which rank takes which of a step."""

from collections.abc import Iterator, Sequence

import torch

from data.batching import token_batches


def shuffled_steps(count: int, batch_size: int, generator: torch.Generator) -> Iterator[list[int]]:
    """Yield one epoch of optimiser steps, each a list of up to ``batch_size`` indices below ``count``.

    Every index comes once; what a step learns from is random.
    """
    order = torch.randperm(count, generator=generator).tolist()
    for start in range(0, count, batch_size):
        yield order[start : start + batch_size]


def share_out(indices: Sequence[int], lengths: Sequence[int], ranks: int) -> list[list[int]]:
    """Deal a step's sequences to ranks so that each has about as many tokens: the longest first, to whom has least.

    Args:
        indices: into ``lengths``, of one step.
        lengths: tokens of every sequence.
        ranks: how many share.

    Returns:
        The indices of each rank, in their order; empty where there are fewer sequences than ranks.
    """
    shares: list[list[int]] = [[] for _ in range(ranks)]
    tokens = [0] * ranks
    # Attention grows faster than tokens, so the longest must not meet on one rank.
    for place in sorted(range(len(indices)), key=lambda place: (-lengths[indices[place]], place)):
        rank = min(range(ranks), key=lambda rank: (tokens[rank], rank))
        shares[rank].append(place)
        tokens[rank] += lengths[indices[place]]
    return [[indices[place] for place in sorted(share)] for share in shares]


def micro_batches(indices: Sequence[int], lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Split a rank's share of a step into passes of at most ``token_budget`` tokens."""
    parts = token_batches([lengths[index] for index in indices], token_budget)
    return [[indices[place] for place in part] for part in parts]
