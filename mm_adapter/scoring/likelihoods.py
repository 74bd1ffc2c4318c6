"""Likelihoods of answer options from one pass in which the options of a question share its prefix.

Log-probabilities of single tokens come without a table over the whole vocabulary. ``AdaptedModel`` says what scoring
and inference ask of a model, whatever it is made of; ``MultimodalLlama`` is one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from mm_adapter.adapter import Adapter
from mm_adapter.core.images import ImageSource
from mm_adapter.data.conversation import ConversationTemplate
from mm_adapter.data.templates import QuestionTemplate
from mm_adapter.llama.attention import AttentionPrefix
from mm_adapter.llama.model import Llama, Prefixes
from mm_adapter.llama.tokenizers.tokenizer import Tokenizer
from mm_adapter.scoring.batching import OptionBatch, TokenBatch

ROWS = 32  # at once: a slice of the logits that stays in a processor's cache


def target_log_probabilities(logits: Tensor, source_of: Tensor, targets: Tensor) -> Tensor:
    """Return the log-probability of each target, ``(M,)`` float32, computed in float32 whatever the logits' dtype.

    Args:
        logits: ``(U, V)``.
        source_of: ``(M,)`` int64, the row of ``logits`` that predicts each target; several targets may share one.
        targets: ``(M,)`` int64, token ids.
    """
    return _TargetLogProbabilities.apply(logits, source_of, targets)


class _TargetLogProbabilities(torch.autograd.Function):
    """Keeps the logits in their own dtype; forward and backward go through them slice by slice."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, source_of: Tensor, targets: Tensor) -> Tensor:
        normaliser = torch.cat([rows.float().logsumexp(dim=-1) for rows in logits.split(ROWS)])  # (U,)
        ctx.save_for_backward(logits, normaliser, source_of, targets)
        return logits[source_of, targets].float() - normaliser[source_of]  # (M,)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        logits, normaliser, source_of, targets = ctx.saved_tensors
        # d log p(target) / d logits = [token is target] - softmax, summed over the targets of a row.
        of_rows = torch.zeros_like(normaliser).index_add_(0, source_of, gradient)  # (U,)
        result = torch.empty_like(logits)
        for start in range(0, len(logits), ROWS):
            part = slice(start, start + ROWS)
            probabilities = (logits[part].float() - normaliser[part, None]).exp_()
            result[part] = probabilities.mul_(-of_rows[part, None])
        result.index_put_((source_of, targets), gradient.to(result.dtype), accumulate=True)
        return result, None, None


@dataclass(frozen=True)
class OptionScores:
    """What a pass says about the options of a batch.

    Attributes:
        log_likelihoods: ``(O,)`` float32, sum over each option's tokens, given the question.
        lengths: ``(O,)`` int64, tokens of each option.
        language_loss: ``(B,)`` float32, mean negative log-likelihood by question of the right answer and, where the
            batch has leads and tails, of explanation and end; zeros where the right answer is not known.
    """

    log_likelihoods: Tensor
    lengths: Tensor
    language_loss: Tensor

    def ranking_scores(self, kind: str) -> Tensor:
        """Return ``(O,)`` scores to rank options by: ``mean`` per token or ``sum`` of log-likelihoods."""
        return self.log_likelihoods / self.lengths if kind == "mean" else self.log_likelihoods


def lower_states(llama: Llama, batch: TokenBatch, first_layer: int) -> Tensor:
    """Return the hidden states ``(1, N, D)`` that enter ``first_layer``: no adapter has touched them yet.

    They have a graph only where the embedding itself is trained.
    """
    trained = any(weight.requires_grad for weight in llama.embedding.parameters())
    with torch.set_grad_enabled(torch.is_grad_enabled() and trained):
        embedded = llama.embedding(batch.tokens)[None]
        return llama.run_layers(embedded, batch.positions, batch.packing, last=first_layer)


def target_likelihoods(
    llama: Llama,
    batch: TokenBatch,
    prefixes: Prefixes | None = None,
    states: Tensor | None = None,
    first_layer: int = 0,
) -> Tensor:
    """Return the log-probability of every target of a batch, ``(M,)`` float32.

    Differentiable with respect to what the prefixes depend on. Logits are computed for the positions that predict a
    target, and for no other.

    Args:
        llama: the frozen model.
        batch: packed sequences.
        prefixes: of the adapter, one per decoder layer; None for the base model.
        states: ``(1, N, D)`` that enter ``first_layer``, where they are known already.
        first_layer: the layer to go on from.
    """
    if states is None:
        states = lower_states(llama, batch, first_layer)
    predicting = llama.run_layers(
        states, batch.positions, batch.packing, prefixes, first=first_layer, wanted=batch.sources
    )  # (1, U, D)
    return target_log_probabilities(llama.logits(predicting[0]), batch.source_of, batch.targets)  # (M,)


def language_loss(log_probabilities: Tensor, batch: TokenBatch) -> Tensor:
    """Return the mean negative log-likelihood of each sequence's language-model target, ``(B,)``; 0 without one.

    Args:
        log_probabilities: ``(M,)`` of every target of the batch.
    """
    chosen = log_probabilities[batch.language]  # (targets of the language-model loss,)
    segment_ids = batch.packing.segment_ids[batch.sources][batch.source_of][batch.language]  # the sequence of each
    zeros = chosen.new_zeros(len(batch.pids))
    total = zeros.index_add(0, segment_ids, -chosen)
    count = zeros.index_add(0, segment_ids, torch.ones_like(chosen))
    return total / count.clamp(min=1)


def score_options(
    llama: Llama,
    batch: OptionBatch,
    prefixes: Prefixes | None = None,
    states: Tensor | None = None,
    first_layer: int = 0,
) -> OptionScores:
    """Score the options of a batch; arguments as in ``target_likelihoods``."""
    chosen = target_likelihoods(llama, batch, prefixes, states, first_layer)  # (M,)
    scored = batch.option_of >= 0  # (M,), false for targets that belong to no option
    sums = chosen.new_zeros(len(batch.question_of)).index_add(0, batch.option_of[scored], chosen[scored])
    return OptionScores(sums, batch.lengths, language_loss(chosen, batch))


def padded_by_question(scores: Tensor, batch: OptionBatch) -> Tensor:
    """Return ``(B, most options)`` of scores ``(O,)``, filled up with minus infinity."""
    rows = torch.nn.utils.rnn.pad_sequence(
        list(scores.split(list(batch.option_counts))), batch_first=True, padding_value=float("-inf")
    )
    return rows


def ranking_loss(scores: Tensor, batch: OptionBatch, smoothing: float = 0.0) -> Tensor:
    """Return ``(B,)``: cross entropy of a softmax over each question's options.

    Args:
        scores: ``(O,)``.
        smoothing: share of the target that is spread evenly over a question's own options.
    """
    log_probabilities = padded_by_question(scores, batch).log_softmax(dim=-1)  # (B, most options)
    right = F.nll_loss(log_probabilities, batch.answers, reduction="none")
    if not smoothing:
        return right
    counts = torch.tensor(batch.option_counts, device=scores.device)
    even = -log_probabilities.masked_fill(log_probabilities.isneginf(), 0.0).sum(dim=-1) / counts
    return (1 - smoothing) * right + smoothing * even


class AdaptedModel(Protocol):
    """A frozen decoder with an adapter, and how it is asked; see the methods of ``MultimodalLlama``."""

    @property
    def llama(self) -> Llama: ...
    @property
    def adapter(self) -> Adapter | None: ...
    @property
    def tokenizer(self) -> Tokenizer: ...
    @property
    def template(self) -> QuestionTemplate: ...
    @property
    def conversation_template(self) -> ConversationTemplate: ...
    @property
    def ranking(self) -> str: ...
    @property
    def max_length(self) -> int: ...
    @property
    def end_tokens(self) -> set[int]: ...
    @property
    def first_adapted_layer(self) -> int: ...

    def prefixes(
        self, image_features: Tensor | None = None, has_image: Tensor | None = None
    ) -> list[AttentionPrefix | None] | None:
        """Return the adapter's prefix for every layer, or None without an adapter."""

    def image_features(self, image: ImageSource) -> Tensor:
        """Return global features ``(1, F)`` of one picture."""
        ...

    def score_choices(
        self,
        batch: OptionBatch,
        image_features: Tensor | None = None,
        has_image: Tensor | None = None,
        states: Tensor | None = None,
    ) -> OptionScores:
        """Score the options of a packed batch."""
        ...

    def generate(
        self,
        prompts: Sequence[str | Sequence[int]],
        image_features: Tensor | None = None,
        has_image: Tensor | None = None,
        max_new_tokens: int = 64,
        *,
        generator: torch.Generator | None = None,
        stop_strings: Sequence[str] = (),
    ) -> list[str]:
        """Continue prompts, text or token ids."""
        ...
