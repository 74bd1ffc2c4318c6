"""What is learned: the losses of a batch, and how good a model is on held-out questions or conversations."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mm_adapter.distributed import SINGLE_PROCESS, DistributedContext
from mm_adapter.model import MultimodalLlama
from mm_adapter.scoring.encoded_sets import (
    ConversationSet,
    HiddenStateCache,
    QuestionSet,
    language_losses,
    measure_responses,
    response_log_likelihoods,
    score_questions,
)
from mm_adapter.scoring.likelihoods import ranking_loss
from mm_adapter.training.config import TrainingConfig


@dataclass(frozen=True)
class Validation:
    """A validation on the held-out examples.

    Attributes:
        loss: mean over the examples.
        accuracy: percent answered right; None where there is no right or wrong.
    """

    loss: float
    accuracy: float | None = None

    @property
    def rank(self) -> tuple[float, float]:
        """The higher the better: accuracy first, the loss between equals."""
        return (0.0 if self.accuracy is None else self.accuracy, -self.loss)

    def __str__(self) -> str:
        accuracy = "" if self.accuracy is None else f"{self.accuracy:.2f} %, "
        return f"{accuracy}loss {self.loss:.4f}"


class Task(Protocol):
    """What the loop needs to know of that which it trains for."""

    @property
    def lengths(self) -> list[int]:
        """Tokens of each training example."""
        ...

    @property
    def pids(self) -> list[str]:
        """Ids of the training examples, in order."""
        ...

    @property
    def val_pids(self) -> list[str]:
        """Ids of the held-out examples, in order."""
        ...

    @property
    def pictures(self) -> int:
        """How many of the training examples have a picture."""
        ...

    @property
    def weights(self) -> Tensor | None:
        """How often each training example is drawn, ``(count,)``; None: once an epoch."""
        ...

    def losses(self, indices: Sequence[int], cache: HiddenStateCache | None) -> Tensor:
        """Return the loss of each of the training examples ``indices``, ``(B,)``; differentiable."""
        ...

    def keep_states(self, indices: Sequence[int], cache: HiddenStateCache) -> None:
        """Fill ``cache`` with what lies below the adapter, as ``losses`` would, without computing losses."""
        ...

    def validate(self, distributed: DistributedContext = SINGLE_PROCESS) -> Validation:
        """Return how good the adapter is on the held-out examples, which the ranks share."""
        ...


class QuestionTask:
    """Choosing the right option: a softmax over the options' scores, and the language-model loss of the right one.

    Args:
        model: with the adapter to be trained.
        train, val: questions with their features.
        config: weights of the losses, and how options are ranked.

    Attributes:
        explains_first: the answer follows an explanation. In training it is the right one, and options are ranked given
            that; how many answers are right shows only when the model writes its own.
    """

    def __init__(self, model: MultimodalLlama, train: QuestionSet, val: QuestionSet, config: TrainingConfig) -> None:
        self.model, self.train_set, self.val_set, self.config = model, train, val, config
        self.lengths = train.lengths
        self.explains_first = config.explanation_place == "before"
        self.pids, self.val_pids = ([question.pid for question in part.questions] for part in (train, val))
        self.pictures = sum(question.image is not None for question in train.questions)
        self.weights = balanced_weights(train) if config.balance == "answers" else None

    def losses(self, indices: Sequence[int], cache: HiddenStateCache | None) -> Tensor:
        """Return the weighted loss of each question, ``(B,)``."""
        config, device = self.config, self.model.llama.device
        batch, features, has_image = self.train_set.batch(indices, with_tail=True)
        batch = batch.to(device)
        features = None if features is None else features.to(device)
        has_image = None if has_image is None else has_image.to(device)
        states = None if cache is None else cache.states(batch)
        scores = self.model.score_choices(batch, features, has_image, states)
        ranking = ranking_loss(scores.ranking_scores(config.ranking), batch, config.label_smoothing)
        return config.ranking_weight * ranking + config.language_weight * scores.language_loss

    def keep_states(self, indices: Sequence[int], cache: HiddenStateCache) -> None:
        """Fill ``cache`` with the states of these questions."""
        cache.states(self.train_set.batch(indices, with_tail=True)[0].to(self.model.llama.device))

    def validate(self, distributed: DistributedContext = SINGLE_PROCESS) -> Validation:
        """Score every option of the validation questions; or what should be written, where that explains first."""
        budget = self.config.validation_budget
        if self.explains_first:
            losses = language_losses(self.model, self.val_set, budget, distributed)
            return Validation(sum(losses) / len(losses))
        outcome = score_questions(self.model, self.val_set, budget, distributed)
        right = [o.choice == q.question.answer for o, q in zip(outcome, self.val_set.questions, strict=True)]
        return Validation(sum(o.loss for o in outcome) / len(outcome), 100 * sum(right) / len(right))


def balanced_weights(examples: QuestionSet) -> Tensor:
    """Return a weight for each question, ``(count,)`` float64: each answer to one and the same text weighs as much.

    Where nearly every answer to a question is no, saying no is learned long before the picture is looked at.
    """
    asked = [(question.prefix, question.options[question.question.answer]) for question in examples.questions]
    counts = Counter(asked)
    return torch.tensor([1 / counts[key] for key in asked], dtype=torch.float64)


class ResponseTask:
    """Every token of a response counts alike, whichever conversation it is in.

    Args:
        model: with the adapter to be trained.
        train, val: conversations with their features.
        config: settings of the run.
    """

    def __init__(
        self, model: MultimodalLlama, train: ConversationSet, val: ConversationSet, config: TrainingConfig
    ) -> None:
        self.model, self.train_set, self.val_set, self.config = model, train, val, config
        self.lengths = train.lengths
        self.pids, self.val_pids = ([sample.id for sample in part.conversations] for part in (train, val))
        self.pictures = sum(sample.image is not None for sample in train.conversations)
        self.weights = None
        self._mean_tokens = train.response_tokens / len(train.conversations)

    def losses(self, indices: Sequence[int], cache: HiddenStateCache | None) -> Tensor:
        """Return the loss of each conversation, ``(B,)``; their mean over an epoch is the loss per token."""
        sums, _ = response_log_likelihoods(self.model, self.train_set, indices, cache)
        return -sums / self._mean_tokens

    def keep_states(self, indices: Sequence[int], cache: HiddenStateCache) -> None:
        """Fill ``cache`` with the states of these conversations."""
        cache.states(self.train_set.batch(indices)[0].to(self.model.llama.device))

    def validate(self, distributed: DistributedContext = SINGLE_PROCESS) -> Validation:
        """Return the loss per token of the held-out responses."""
        budget = self.config.validation_budget
        return Validation(measure_responses(self.model, self.val_set, budget, distributed).loss)
