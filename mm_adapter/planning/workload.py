"""What one forward pass holds: how a step's questions fall into passes and over ranks."""

import math
from dataclasses import dataclass

from mm_adapter.core.errors import UserError
from mm_adapter.training.config import TrainingConfig

# Tokens of a packed question, positions whose logits are computed, and questions of an epoch. Tokens and positions are
# means of real sets with SmolLM2's tokenizer: ScienceQA questions with all their options (template QC-A, text; QCM-A,
# letter), instructions in Alpaca's wording. The counts are ScienceQA's train split (arXiv 2209.09513, table 1) and
# Alpaca's instructions.
TYPICAL = {"text": (60, 17, 12726), "letter": (82, 13, 12726), "conversations": (142, 70, 52002)}


@dataclass(frozen=True)
class Workload:
    """One pass of a rank: questions of the same length, packed.

    Attributes:
        questions: in the pass, B.
        question_tokens: tokens of each, options included.
        predicting: positions of each that predict something: their logits are computed.
        rank_questions: that a rank takes of an optimiser step.
        epoch_questions: questions of an epoch, over all ranks.
        step_questions: questions of an optimiser step, over all ranks.
    """

    questions: int
    question_tokens: int
    predicting: int
    rank_questions: int = 1
    epoch_questions: int = 1
    step_questions: int = 1

    @property
    def tokens(self) -> int:
        """Tokens of the pass, N."""
        return self.questions * self.question_tokens

    @property
    def predicting_tokens(self) -> int:
        """Positions of the pass that predict something, U."""
        return self.questions * self.predicting

    @property
    def pairs(self) -> int:
        """Query-key pairs of attention within the pass: a mask hides some, and none is left out of the work."""
        return self.questions * self.question_tokens**2

    @property
    def passes(self) -> int:
        """Passes of a rank for an optimiser step; the last one may be smaller."""
        return math.ceil(self.rank_questions / self.questions)

    @property
    def steps(self) -> int:
        """Optimiser steps of an epoch."""
        return math.ceil(self.epoch_questions / self.step_questions)


def make_workload(
    config: TrainingConfig,
    ranks: int = 1,
    questions: int | None = None,
    question_tokens: int | None = None,
    answer_tokens: int | None = None,
) -> Workload:
    """Return the pass of a run; what is not given is what is typical of the task.

    Args:
        ranks: over which the questions of a step are divided.
        questions: in an epoch.
        question_tokens: mean tokens of a packed question.
        answer_tokens: positions of a question whose logits are computed.

    Raises:
        UserError: a number that cannot be.
    """
    kind = "conversations" if config.task == "conversations" else config.answer_format
    typical = TYPICAL.get(kind, TYPICAL["text"])
    length = min(typical[0] if question_tokens is None else question_tokens, config.max_length)
    predicting = min(typical[1], max(1, length // 2)) if answer_tokens is None else answer_tokens
    epoch = typical[2] if questions is None else questions
    for name, value in (
        ("ranks", ranks),
        ("questions", epoch),
        ("question-tokens", length),
        ("answer-tokens", predicting),
    ):
        if value < 1:
            raise UserError(f"--{name} is {value}; it must be greater than 0.")
    if question_tokens is not None and question_tokens > config.max_length:
        raise UserError(f"--question-tokens {question_tokens} is more than --max-length {config.max_length}.")
    if predicting >= length:
        raise UserError(f"--answer-tokens {predicting} must be less than the {length} tokens of a question.")
    if ranks > config.batch_size:
        raise UserError(
            f"--ranks {ranks} is more than the {config.batch_size} questions of a step; raise --batch-size."
        )
    own = math.ceil(config.batch_size / ranks)
    together = min(own, max(1, config.token_budget // length))
    return Workload(together, length, predicting, own, epoch, config.batch_size)
