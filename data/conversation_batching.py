"""Batches of conversations: stored one after another, each blind to the others, the responses alone predicted."""

from collections.abc import Sequence
from itertools import accumulate

import torch

from data.batching import TokenBatch, attention_groups
from data.conversation_encoding import EncodedConversation
from mm_adapter.packing import Packing


def collate_conversations(conversations: Sequence[EncodedConversation]) -> TokenBatch:
    """Pack conversations into one batch in which every token of a response is predicted from what stands before it."""
    lengths = [len(conversation.tokens) for conversation in conversations]
    starts = list(accumulate(lengths, initial=0))
    groups = attention_groups(lengths)
    masks = []
    for group in groups:
        width = max(lengths[index] for index in group)
        masks.append(torch.ones(width, width, dtype=torch.bool).tril().expand(len(group), 1, width, width))
    tokens = torch.tensor([token for conversation in conversations for token in conversation.tokens])
    predicted = [
        start + place
        for start, conversation in zip(starts, conversations, strict=False)
        for place, target in enumerate(conversation.targets)
        if target
    ]
    places = torch.tensor(predicted)
    return TokenBatch(
        pids=tuple(conversation.id for conversation in conversations),
        tokens=tokens,
        positions=torch.cat([torch.arange(length) for length in lengths]),
        packing=Packing.build(lengths, groups, masks),
        sources=places - 1,
        source_of=torch.arange(len(places)),
        targets=tokens[places],
        language=torch.ones(len(places), dtype=torch.bool),
    )
