"""Encoded conversations together with their image features: what instruction following is trained and measured on."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from data.batching import TokenBatch, token_batches
from data.conversation_batching import collate_conversations
from data.conversation_encoding import EncodedConversation
from mm_adapter.examples import StateCache, stack_features
from mm_adapter.model import MultimodalLlama
from mm_adapter.ranks import ALONE, Ranks
from mm_adapter.scoring import target_likelihoods


@dataclass(frozen=True)
class ConversationSet:
    """Conversations of one split, ready for the model.

    Attributes:
        conversations: encoded.
        features: global image features ``(F,)`` by picture; empty where none are used.
    """

    conversations: Sequence[EncodedConversation]
    features: Mapping[Path, Tensor] = field(default_factory=dict)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each conversation."""
        return [len(conversation.tokens) for conversation in self.conversations]

    @property
    def response_tokens(self) -> int:
        """Tokens that are learned, in all."""
        return sum(sum(conversation.targets) for conversation in self.conversations)

    def batch(self, indices: Sequence[int]) -> tuple[TokenBatch, Tensor | None, Tensor | None]:
        """Return the packed batch, its image features ``(B, F)`` and which conversations have one, ``(B,)`` bool."""
        members = [self.conversations[index] for index in indices]
        features = stack_features([member.image for member in members], self.features)
        return collate_conversations(members), *features


@dataclass(frozen=True)
class ResponseLoss:
    """How likely a model finds the responses of a set.

    Attributes:
        loss: mean negative log-likelihood per token of all responses, end tokens included.
        by_conversation: the same within each conversation, in order.
        tokens: of all responses.
    """

    loss: float
    by_conversation: tuple[float, ...]
    tokens: int


def response_log_likelihoods(
    model: MultimodalLlama, examples: ConversationSet, indices: Sequence[int], cache: StateCache | None = None
) -> tuple[Tensor, Tensor]:
    """Return the log-likelihood of each conversation's responses and their tokens, ``(B,)`` float32 each.

    Differentiable with respect to what is trained.

    Args:
        cache: of the states that enter the first adapted layer, where they are kept.
    """
    batch, features, has_image = examples.batch(indices)
    device = model.llama.device
    batch = batch.to(device)
    prefixes = model.prefixes(
        None if features is None else features.to(device), None if has_image is None else has_image.to(device)
    )
    first = 0 if model.adapter is None else model.adapter.first_layer
    states = None if cache is None else cache.states(batch)
    chosen = target_likelihoods(model.llama, batch, prefixes, states, first)
    owners = batch.packing.owners[batch.sources][batch.source_of]
    zeros = chosen.new_zeros(len(batch.pids))
    return zeros.index_add(0, owners, chosen), zeros.index_add(0, owners, torch.ones_like(chosen))


@torch.no_grad()
def measure_responses(
    model: MultimodalLlama, examples: ConversationSet, token_budget: int = 4096, ranks: Ranks = ALONE
) -> ResponseLoss:
    """Return how likely the model finds every response, in batches of similar length that the ranks share."""
    own: dict[int, tuple[float, int]] = {}
    for indices in ranks.share(token_batches(examples.lengths, token_budget), even=model.llama.sharded):
        sums, counts = response_log_likelihoods(model, examples, indices)
        own.update(zip(indices, zip(sums.tolist(), counts.int().tolist(), strict=True), strict=True))
    found = {index: measured for part in ranks.gather(own) for index, measured in part.items()}
    ordered = [found[index] for index in range(len(examples.conversations))]
    tokens = sum(count for _, count in ordered)
    by_conversation = tuple(-total / max(1, count) for total, count in ordered)
    return ResponseLoss(-math.fsum(total for total, _ in ordered) / max(1, tokens), by_conversation, tokens)
