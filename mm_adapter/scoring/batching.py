"""Batches of questions whose options share the computation of their prefix, and batches of conversations."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mm_adapter.data.conversation import EncodedConversation
from mm_adapter.data.encoding import EncodedQuestion
from mm_adapter.llama.packing import Packing

if TYPE_CHECKING:
    from typing_extensions import Self

PREFIX, TAIL = 0, -1  # segments; option k of a question is segment k + 1


@dataclass(frozen=True)
class TokenBatch:
    """B sequences, N tokens in all, one after another, and what is to be predicted in them.

    Attributes:
        pids: of the sequences, B.
        tokens, positions: ``(N,)`` int64.
        packing: where each sequence lies, and what its tokens see.
        sources: ``(U,)`` int64 into the N tokens: those whose output predicts something.
        source_of: ``(M,)`` int64 into ``sources``, for each of M predictions.
        targets: ``(M,)`` int64, the token to be predicted.
        language: ``(M,)`` bool: the prediction belongs to what the model should say, the language-model target.
    """

    pids: tuple[str, ...]
    tokens: Tensor
    positions: Tensor
    packing: Packing
    sources: Tensor
    source_of: Tensor
    targets: Tensor
    language: Tensor

    def to(self, device: torch.device | str) -> "Self":
        """Return the batch with every tensor on ``device``."""
        moved: dict[str, Any] = {
            field.name: value.to(device)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor | Packing)
        }
        return replace(self, **moved)


@dataclass(frozen=True)
class OptionBatch(TokenBatch):
    """B questions, each as prefix, lead, option 1, option 2, …, tail.

    Every option sees the prefix and itself, none of the other options; its positions go on from the prefix's end.
    So each option's likelihood is what it would have alone, for one pass over the prefix.
    The tail follows the right option. The lead, an explanation before the answer, is seen by all of them.

    The language-model target is the right answer with its lead and tail.

    Attributes:
        option_of: ``(M,)`` int64 into the batch's options, -1 for tokens of lead and tail.
        question_of: ``(O,)`` int64: the question of each option.
        option_counts: options of each question, B.
        answers: ``(B,)`` int64: index of the right option among the question's own, -1 where unknown.
        lengths: ``(O,)`` int64: tokens of each option.
    """

    option_of: Tensor
    question_of: Tensor
    option_counts: tuple[int, ...]
    answers: Tensor
    lengths: Tensor


def collate(questions: Sequence[EncodedQuestion], with_tail: bool = True) -> OptionBatch:
    """Pack questions into one batch; without lead and tail where only options are to be scored."""
    packed = [_pack(question, with_tail) for question in questions]
    lengths = [len(layout.tokens) for layout in packed]
    starts = list(accumulate(lengths, initial=0))
    first_option = [0]
    for question in questions:
        first_option.append(first_option[-1] + len(question.options))
    predictions = [
        (starts[row] + source, target, option if option < 0 else option + first_option[row], language)
        for row, layout in enumerate(packed)
        for source, target, option, language in layout.predictions
    ]
    source, target, option_of, language = zip(*predictions, strict=True)
    sources, source_of = torch.unique(torch.tensor(source), return_inverse=True)
    answers = [question.question.answer for question in questions]
    masks = [_visible(layout, answer) for layout, answer in zip(packed, answers, strict=True)]
    return OptionBatch(
        pids=tuple(question.pid for question in questions),
        tokens=torch.tensor([token for layout in packed for token in layout.tokens]),
        positions=torch.tensor([position for layout in packed for position in layout.positions]),
        packing=Packing.build(lengths, None, masks),
        sources=sources,
        source_of=source_of,
        targets=torch.tensor(target),
        option_of=torch.tensor(option_of),
        language=torch.tensor(language),
        question_of=torch.tensor([row for row, question in enumerate(questions) for _ in question.options]),
        option_counts=tuple(len(question.options) for question in questions),
        answers=torch.tensor(answers),
        lengths=torch.tensor([len(option) for question in questions for option in question.options]),
    )


@dataclass(frozen=True)
class _Layout:
    """One question's row before padding; predictions are (source position, target, option or -1, language target)."""

    tokens: list[int]
    positions: list[int]
    segments: list[int]
    predictions: list[tuple[int, int, int, bool]]


def _pack(question: EncodedQuestion, with_tail: bool) -> _Layout:
    answer = question.question.answer
    lead = question.lead if with_tail and answer >= 0 else ()
    asked = len(question.prefix)
    start = asked + len(lead)
    row = _Layout([*question.prefix, *lead], list(range(start)), [PREFIX] * start, [])

    def append(ids: Sequence[int], position: int, segment: int) -> None:
        row.tokens.extend(ids)
        row.positions.extend(range(position, position + len(ids)))
        row.segments.extend([segment] * len(ids))

    def predict(ids: Sequence[int], first_source: int, following: int, option: int, language: bool) -> None:
        # The first token is predicted from what stands before the segment, the others from the segment itself.
        for offset, token in enumerate(ids):
            row.predictions.append((following + offset - 1 if offset else first_source, token, option, language))

    predict(lead, asked - 1, asked, -1, True)
    end_of_right = start - 1
    for number, option in enumerate(question.options):
        predict(option, start - 1, len(row.tokens), number, number == answer)
        append(option, start, number + 1)
        if number == answer:
            end_of_right = len(row.tokens) - 1
    if with_tail and answer >= 0 and question.tail:
        predict(question.tail, end_of_right, len(row.tokens), -1, True)
        # The last token of the tail is only predicted, never read.
        append(question.tail[:-1], start + len(question.options[answer]), TAIL)
    return row


def _visible(layout: _Layout, answer: int) -> Tensor | None:
    """Return the mask ``(1, 1, T, T)`` of a question: causal, and blind to other options; None where just causal."""
    if max(layout.segments) <= 1:
        return None
    segments = torch.tensor([layout.segments])
    queries, keys = segments[:, :, None], segments[:, None, :]
    visible = (queries == keys) | (keys == PREFIX) | (queries == TAIL) & (keys == answer + 1)
    return visible.tril()[:, None]


def token_batches(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Split sequences, from short to long, into batches of at most ``token_budget`` tokens.

    Returns:
        Indices into ``lengths``, every index once; a sequence over the budget is a batch of its own.
    """
    batches: list[list[int]] = []
    room = 0
    for index in _by_length(lengths):
        if not batches or lengths[index] > room:
            batches.append([])
            room = token_budget
        batches[-1].append(index)
        room -= lengths[index]
    return batches


def _by_length(lengths: Sequence[int]) -> list[int]:
    return sorted(range(len(lengths)), key=lambda index: (lengths[index], index))


def collate_conversations(conversations: Sequence[EncodedConversation]) -> TokenBatch:
    """Pack conversations into one batch in which every token of a response is predicted from what stands before it."""
    lengths = [len(conversation.tokens) for conversation in conversations]
    starts = list(accumulate(lengths, initial=0))
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
        packing=Packing.build(lengths, None, [None] * len(lengths)),
        sources=places - 1,
        source_of=torch.arange(len(places)),
        targets=tokens[places],
        language=torch.ones(len(places), dtype=torch.bool),
    )
