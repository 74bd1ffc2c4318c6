"""Following instructions: the likelihood of the responses, given the requests."""

from collections.abc import Sequence

from torch import Tensor

from mm_adapter.conversations import ConversationSet, measure_responses, response_log_likelihoods
from mm_adapter.examples import StateCache
from mm_adapter.model import MultimodalLlama
from mm_adapter.ranks import ALONE, Ranks
from mm_adapter.training.config import TrainingConfig
from mm_adapter.training.task import Validation


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
        self._mean_tokens = train.response_tokens / len(train.conversations)

    def losses(self, indices: Sequence[int], cache: StateCache | None) -> Tensor:
        """Return the loss of each conversation, ``(B,)``; their mean over an epoch is the loss per token."""
        sums, _ = response_log_likelihoods(self.model, self.train_set, indices, cache)
        return -sums / self._mean_tokens

    def keep_states(self, indices: Sequence[int], cache: StateCache) -> None:
        """Fill ``cache`` with the states of these conversations."""
        cache.states(self.train_set.batch(indices)[0].to(self.model.llama.device))

    def validate(self, ranks: Ranks = ALONE) -> Validation:
        """Return the loss per token of the held-out responses."""
        budget = self.config.validation_budget
        return Validation(measure_responses(self.model, self.val_set, budget, ranks).loss)
