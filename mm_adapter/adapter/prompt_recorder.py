"""What a pass adds by its prompts, and which of them it looks at: a prefix that keeps it while it attends."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mm_adapter.adapter.attention import GatedPrefix, SummedPrefix
from mm_adapter.llama.attention import Mask, attend
from mm_adapter.llama.packing import Packing


@dataclass
class PromptRecorder:
    """Attends as ``prefix`` does, and keeps what it saw of one pass over N tokens of a batch of one, packed or not.

    Attributes:
        ratios: ``(N,)`` float32, norm of the gated attention to the prompts over that of the attention to the text.
        weights: ``(N, K)`` float32, softmax over the prompts, mean over heads.
        gated: ``(N, K)`` float32, the same, each head times the size of its gate: mean of ``|tanh(g)| w``.
        piece_weights, gated_pieces: ``(N, P)`` float32, the same over the pieces of a picture, where they are prompts
            of their own; else empty.
    """

    prefix: GatedPrefix | SummedPrefix
    ratios: Tensor = field(default_factory=lambda: torch.empty(0))
    weights: Tensor = field(default_factory=lambda: torch.empty(0))
    gated: Tensor = field(default_factory=lambda: torch.empty(0))
    piece_weights: Tensor = field(default_factory=lambda: torch.empty(0))
    gated_pieces: Tensor = field(default_factory=lambda: torch.empty(0))

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Mask, causal: bool) -> Tensor:
        """Return attention to text and prompts, ``(1, H, N, head_dim)``."""
        to_text = attend(queries, keys, values, mask, causal)
        parts = (self.prefix,) if isinstance(self.prefix, GatedPrefix) else (self.prefix.prompts, self.prefix.pieces)
        gated = torch.stack([part.strength * part.attend_to_prompts(queries, mask) for part in parts]).sum(dim=0)
        self.ratios = (_norms(gated) / _norms(to_text).clamp(min=torch.finfo(torch.float32).tiny)).cpu()
        self.weights, self.gated = _mean_weights(parts[0], queries, mask)
        if len(parts) > 1:
            self.piece_weights, self.gated_pieces = _mean_weights(parts[1], queries, mask)
        return to_text + gated


def recorders(prefixes: Sequence[object]) -> list[PromptRecorder]:
    """Return a recorder for every adapted layer, in order."""
    return [PromptRecorder(prefix) for prefix in prefixes if isinstance(prefix, GatedPrefix | SummedPrefix)]


def _mean_weights(part: GatedPrefix, queries: Tensor, mask: Mask) -> tuple[Tensor, Tensor]:
    """Return each token's softmax over the prompts of ``part``, mean over heads, plain and gated: ``(N, K)`` each."""
    keys = part.keys.repeat_interleave(queries.shape[1] // part.keys.shape[1], dim=1)
    if isinstance(mask, Packing) and keys.shape[0] > 1:
        blocks = zip(mask.split(queries), mask.members, strict=True)
        weights = mask.join([_weights(own, keys[of]) for own, of in blocks])  # (1, H, N, K)
    else:
        weights = _weights(queries, keys)
    gates = part.strength[0].float().abs()  # (H, 1, 1)
    return weights[0].mean(dim=0).cpu(), (gates * weights[0]).mean(dim=0).cpu()


def _weights(queries: Tensor, keys: Tensor) -> Tensor:
    scores = (queries.float() @ keys.float().transpose(2, 3)) * queries.shape[-1] ** -0.5
    return scores.softmax(dim=-1)


def _norms(heads: Tensor) -> Tensor:
    return heads[0].float().transpose(0, 1).flatten(1).norm(dim=-1)
