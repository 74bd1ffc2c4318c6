"""Batches of questions in which the options of one question share its prefix's computation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from data.encoding import EncodedQuestion

PREFIX, PADDING, TAIL = 0, -1, -2  # segments; option k of a question is segment k + 1


@dataclass(frozen=True)
class OptionBatch:
    """B questions, each packed as prefix, option 1, option 2, …, tail; padded on the right to T tokens.

    Every option sees the prefix and itself, none of the other options; its positions go on from the prefix's end.
    So each option's likelihood is what it would have alone, for one pass over the prefix.
    The tail follows the right option.

    Attributes:
        pids: of the questions, B.
        tokens, positions: ``(B, T)`` int64.
        mask: ``(B, 1, T, T)`` bool, true where a query (third axis) may look at a key (fourth).
        sources: ``(U,)`` int64 into the flattened ``B * T`` positions: those whose output predicts something.
        source_of: ``(M,)`` int64 into ``sources``, for each of M predictions.
        targets: ``(M,)`` int64, the token to be predicted.
        option_of: ``(M,)`` int64 into the batch's options, -1 for tokens of the tail.
        language: ``(M,)`` bool: the prediction belongs to the right answer or its tail, the language-model target.
        question_of: ``(O,)`` int64: the question of each option.
        option_counts: options of each question, B.
        answers: ``(B,)`` int64: index of the right option among the question's own, -1 where unknown.
        lengths: ``(O,)`` int64: tokens of each option.
    """

    pids: tuple[str, ...]
    tokens: Tensor
    positions: Tensor
    mask: Tensor
    sources: Tensor
    source_of: Tensor
    targets: Tensor
    option_of: Tensor
    language: Tensor
    question_of: Tensor
    option_counts: tuple[int, ...]
    answers: Tensor
    lengths: Tensor

    def to(self, device: torch.device | str) -> "OptionBatch":
        """Return the batch with every tensor on ``device``."""
        moved: dict[str, Any] = {
            field.name: value.to(device)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **moved)


def collate(questions: Sequence[EncodedQuestion], with_tail: bool = True) -> OptionBatch:
    """Pack questions into one batch; without the tail where only options are to be scored."""
    packed = [_pack(question, with_tail) for question in questions]
    width = max(len(row.tokens) for row in packed)
    first_option = [0]
    for question in questions:
        first_option.append(first_option[-1] + len(question.options))
    predictions = [
        (row * width + source, target, option if option < 0 else option + first_option[row], language)
        for row, layout in enumerate(packed)
        for source, target, option, language in layout.predictions
    ]
    source, target, option_of, language = zip(*predictions, strict=True)
    sources, source_of = torch.unique(torch.tensor(source), return_inverse=True)
    answers = torch.tensor([question.question.answer for question in questions])
    return OptionBatch(
        pids=tuple(question.question.pid for question in questions),
        tokens=_padded([row.tokens for row in packed], width, 0),
        positions=_padded([row.positions for row in packed], width, 0),
        mask=_visible(_padded([row.segments for row in packed], width, PADDING), answers),
        sources=sources,
        source_of=source_of,
        targets=torch.tensor(target),
        option_of=torch.tensor(option_of),
        language=torch.tensor(language),
        question_of=torch.tensor([row for row, question in enumerate(questions) for _ in question.options]),
        option_counts=tuple(len(question.options) for question in questions),
        answers=answers,
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
    start = len(question.prefix)
    row = _Layout(list(question.prefix), list(range(start)), [PREFIX] * start, [])
    answer = question.question.answer

    def append(ids: Sequence[int], position: int, segment: int) -> None:
        row.tokens.extend(ids)
        row.positions.extend(range(position, position + len(ids)))
        row.segments.extend([segment] * len(ids))

    def predict(ids: Sequence[int], first_source: int, following: int, option: int, language: bool) -> None:
        # The first token is predicted from what stands before the segment, the others from the segment itself.
        for offset, token in enumerate(ids):
            row.predictions.append((following + offset - 1 if offset else first_source, token, option, language))

    end_of_right = start - 1
    for number, option in enumerate(question.options):
        predict(option, start - 1, len(row.tokens), number, number == answer)
        append(option, start, number + 1)
        if number == answer:
            end_of_right = len(row.tokens) - 1
    if with_tail and answer >= 0:
        predict(question.tail, end_of_right, len(row.tokens), -1, True)
        # The last token of the tail is only predicted, never read.
        append(question.tail[:-1], start + len(question.options[answer]), TAIL)
    return row


def _padded(rows: Sequence[list[int]], width: int, filler: int) -> Tensor:
    return torch.tensor([row + [filler] * (width - len(row)) for row in rows])


def _visible(segments: Tensor, answers: Tensor) -> Tensor:
    """Return the mask ``(B, 1, T, T)`` of a packed batch: causal, and blind to other options."""
    queries, keys = segments[:, :, None], segments[:, None, :]
    visible = (queries == keys) | (keys == PREFIX)
    if bool((segments == TAIL).any()):
        visible |= (queries == TAIL) & (keys == answers[:, None, None] + 1)
    # Padding looks at itself and the prefix: its output is never read, and an empty row would be NaN.
    return visible.tril()[:, None]


def length_batches(lengths: Sequence[int], token_budget: int, overhead: int = 64) -> list[list[int]]:
    """Split questions into batches of similar length with the least total cost.

    Args:
        lengths: tokens of each question.
        token_budget: largest padded size of a batch; a longer question is a batch of its own.
        overhead: what starting one more batch costs, in tokens' worth of work.

    Returns:
        Indices into ``lengths``, every index once, found by dynamic programming over the sorted lengths.
    """
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    cheapest = [0] + [0] * len(order)
    cut = [0] * (len(order) + 1)
    for end in range(1, len(order) + 1):
        width = lengths[order[end - 1]]
        best = None
        for start in range(end - 1, -1, -1):
            padded = width * (end - start)
            if padded > token_budget and start < end - 1:
                break
            cost = cheapest[start] + padded + overhead
            if best is None or cost < best:
                best, cut[end] = cost, start
        cheapest[end] = best or 0
    batches: list[list[int]] = []
    end = len(order)
    while end:
        batches.append(order[cut[end] : end])
        end = cut[end]
    return batches[::-1]


def shuffled_steps(
    lengths: Sequence[int], batch_size: int, token_budget: int, generator: torch.Generator
) -> Iterator[list[list[int]]]:
    """Yield one epoch of optimiser steps, each a list of micro-batches of indices into ``lengths``.

    Questions are shuffled, cut into steps of ``batch_size``, and only within a step grouped by length: what a step
    learns from stays random, what it computes has little padding.
    """
    order = torch.randperm(len(lengths), generator=generator).tolist()
    for start in range(0, len(order), batch_size):
        step = order[start : start + batch_size]
        yield [[step[local] for local in batch] for batch in length_batches([lengths[i] for i in step], token_budget)]
