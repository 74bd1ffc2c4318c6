"""Activation checkpointing of one decoder layer."""

import copy
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def checkpointed(layer: nn.Module, hidden_states: Tensor, rotary: Any, mask: Any, prefix: Any, wanted: Any) -> Tensor:
    """Run a ``DecoderLayer`` so that what it computes is not kept, but computed again on the way back.

    The same numbers and gradients, bit for bit: nothing in a layer is random. The graph of what the prefix was made of
    lies outside the layer and is kept.

    Args:
        layer: whose ``forward`` takes the other arguments; without a cache, into which it would write twice.
    """

    def run(hidden_states: Tensor) -> Tensor:
        # What a prefix keeps from its first use would be there the second time, and the two runs would not be alike.
        return layer(hidden_states, rotary, mask, copy.copy(prefix), None, wanted)

    return checkpoint(run, hidden_states, use_reentrant=False, preserve_rng_state=False)
