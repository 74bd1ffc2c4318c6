"""Encoded questions and conversations together with their image features: what training and evaluation iterate over."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from mm_adapter.data.conversation import EncodedConversation
from mm_adapter.data.encoding import EncodedQuestion
from mm_adapter.distributed import SINGLE_PROCESS, DistributedContext
from mm_adapter.scoring.batching import OptionBatch, TokenBatch, collate, collate_conversations, token_batches
from mm_adapter.scoring.likelihoods import AdaptedModel, OptionScores, lower_states, target_likelihoods


@dataclass(frozen=True)
class QuestionSet:
    """Questions of one split, ready for the model.

    Attributes:
        questions: encoded.
        features: global image features ``(F,)`` by picture; empty where none are used.
    """

    questions: Sequence[EncodedQuestion]
    features: Mapping[Path, Tensor] = field(default_factory=dict)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each question as packed for training."""
        return [question.length for question in self.questions]

    def batch(self, indices: Sequence[int], with_tail: bool) -> tuple[OptionBatch, Tensor | None, Tensor | None]:
        """Return the packed batch, its image features ``(B, F)`` and which questions have one, ``(B,)`` bool."""
        members = [self.questions[index] for index in indices]
        batch = collate(members, with_tail)
        return batch, *stack_features([member.image for member in members], self.features)


def stack_features(
    images: Sequence[Path | None], features: Mapping[Path, Tensor]
) -> tuple[Tensor | None, Tensor | None]:
    """Return image features ``(B, F)`` and which samples have one, ``(B,)`` bool; None and None where none has."""
    found = [None if image is None else features.get(image) for image in images]
    present = [feature for feature in found if feature is not None]
    if not present:
        return None, None
    blank = torch.zeros_like(present[0])
    stacked = torch.stack([blank if feature is None else feature for feature in found])
    return stacked, torch.tensor([feature is not None for feature in found])


class HiddenStateCache:
    """Hidden states that enter the first adapted layer, kept from the first time on: no adapter ever changes them.

    They are kept by what the model reads, so that a question that is asked about many pictures is computed once.

    Args:
        model: whose lower layers are run.
        limit: bytes to keep at most; further questions are computed anew each time.
    """

    def __init__(self, model: AdaptedModel, limit: int = 4 << 30) -> None:
        self.model = model
        self.room = limit
        self.rows: dict[bytes, Tensor] = {}

    def states(self, batch: TokenBatch) -> Tensor | None:
        """Return ``(1, N, D)`` for a batch packed with tails, or None where there is nothing below the adapter."""
        first = self.model.first_adapted_layer
        if first == 0:
            return None
        keys = _reading_keys(batch)
        known = [self.rows[key] for key in keys if key in self.rows]
        if len(known) == len(keys):
            return torch.cat(known)[None].to(batch.tokens.device)
        states = lower_states(self.model.llama, batch, first)
        for key, rows in zip(keys, states[0].split(batch.packing.segment_ids.bincount().tolist()), strict=True):
            self._keep(key, rows)
        return states

    def _keep(self, key: bytes, rows: Tensor) -> None:
        size = rows.numel() * rows.element_size()
        if size <= self.room and key not in self.rows:
            self.rows[key] = rows.cpu().clone()
            self.room -= size


def _reading_keys(batch: TokenBatch) -> list[bytes]:
    """Return for each sequence all that decides what the frozen layers make of it: tokens, places, who sees whom."""
    answers = [0] * len(batch.pids)
    if isinstance(batch, OptionBatch) and bool((batch.option_of < 0).any()):
        answers = batch.answers.tolist()  # to which option a tail belongs shows in the masks alone
    lengths = batch.packing.segment_ids.bincount().tolist()
    read = torch.stack((batch.tokens, batch.positions), dim=1).cpu().split(lengths)
    return [b"%d " % answer + part.numpy().tobytes() for answer, part in zip(answers, read, strict=True)]


@dataclass(frozen=True)
class QuestionScore:
    """One question's outcome.

    Attributes:
        pid: of the question.
        scores: of every option, as ranked.
        choice: index of the best.
        loss: cross entropy of a softmax over the scores; 0 where the right answer is unknown.
    """

    pid: str
    scores: tuple[float, ...]
    choice: int
    loss: float


@torch.no_grad()
def score_questions(
    model: AdaptedModel,
    examples: QuestionSet,
    token_budget: int = 4096,
    distributed: DistributedContext = SINGLE_PROCESS,
) -> list[QuestionScore]:
    """Score every option of every question, in the order of ``examples``, in batches of similar length.

    Whole batches are shared out among ranks, so what a question scores does not depend on how many there are.
    """
    results: dict[int, QuestionScore] = {}
    for indices, batch, found in _scored_batches(model, examples, token_budget, distributed, with_tail=False):
        ranked = found.ranking_scores(model.ranking)
        for index, scores in zip(indices, ranked.split(list(batch.option_counts)), strict=True):
            question = examples.questions[index].question
            loss = 0.0 if question.answer < 0 else -float(scores.log_softmax(dim=0)[question.answer])
            results[index] = QuestionScore(question.pid, tuple(scores.tolist()), int(scores.argmax()), loss)
    gathered = {index: scored for part in distributed.gather(results) for index, scored in part.items()}
    return [gathered[index] for index in range(len(examples.questions))]


@torch.no_grad()
def language_losses(
    model: AdaptedModel,
    examples: QuestionSet,
    token_budget: int = 4096,
    distributed: DistributedContext = SINGLE_PROCESS,
) -> list[float]:
    """Return each example's mean negative log-likelihood per token of right answer and explanation, in order."""
    results: dict[int, float] = {}
    for indices, _, found in _scored_batches(model, examples, token_budget, distributed, with_tail=True):
        results.update(zip(indices, found.language_loss.tolist(), strict=True))
    gathered = {index: loss for part in distributed.gather(results) for index, loss in part.items()}
    return [gathered[index] for index in range(len(examples.questions))]


def _scored_batches(
    model: AdaptedModel, examples: QuestionSet, token_budget: int, distributed: DistributedContext, with_tail: bool
) -> Iterator[tuple[Sequence[int], OptionBatch, OptionScores]]:
    device = model.llama.device
    # Questions that are asked about picture after picture pass the layers below the adapter once.
    texts = {(question.prefix, question.lead, question.options) for question in examples.questions}
    repeated = 2 * len(texts) <= len(examples.questions)
    kept = repeated and model.adapter is not None and not model.llama.sharded
    cache = HiddenStateCache(model, 1 << 30) if kept else None
    for indices in distributed.shard(token_batches(examples.lengths, token_budget), even=model.llama.sharded):
        batch, features, has_image = examples.batch(indices, with_tail)
        batch = batch.to(device)
        features = None if features is None else features.to(device)
        has_image = None if has_image is None else has_image.to(device)
        states = None if cache is None else cache.states(batch)
        yield indices, batch, model.score_choices(batch, features, has_image, states)


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
    model: AdaptedModel, examples: ConversationSet, indices: Sequence[int], cache: HiddenStateCache | None = None
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
    first = 0 if model.adapter is None else model.adapter.first_changed_layer
    states = None if cache is None else cache.states(batch)
    chosen = target_likelihoods(model.llama, batch, prefixes, states, first)
    segment_ids = batch.packing.segment_ids[batch.sources][batch.source_of]
    zeros = chosen.new_zeros(len(batch.pids))
    return zeros.index_add(0, segment_ids, chosen), zeros.index_add(0, segment_ids, torch.ones_like(chosen))


@torch.no_grad()
def measure_responses(
    model: AdaptedModel,
    examples: ConversationSet,
    token_budget: int = 4096,
    distributed: DistributedContext = SINGLE_PROCESS,
) -> ResponseLoss:
    """Return how likely the model finds every response, in batches of similar length that the ranks share."""
    own: dict[int, tuple[float, int]] = {}
    for indices in distributed.shard(token_batches(examples.lengths, token_budget), even=model.llama.sharded):
        sums, counts = response_log_likelihoods(model, examples, indices)
        own.update(zip(indices, zip(sums.tolist(), counts.int().tolist(), strict=True), strict=True))
    found = {index: measured for part in distributed.gather(own) for index, measured in part.items()}
    ordered = [found[index] for index in range(len(examples.conversations))]
    tokens = sum(count for _, count in ordered)
    by_conversation = tuple(-total / max(1, count) for total, count in ordered)
    return ResponseLoss(-math.fsum(total for total, _ in ordered) / max(1, tokens), by_conversation, tokens)
