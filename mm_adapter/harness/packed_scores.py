"""Log-likelihoods of continuations that share passes over what they continue, and whether they are the likeliest."""

from dataclasses import dataclass

import torch

from mm_adapter.inference.answer import Images
from mm_adapter.scoring.batching import OptionBatch
from mm_adapter.scoring.likelihoods import AdaptedModel, lower_states, target_log_probabilities


@dataclass(frozen=True)
class ContinuationScore:
    """What a model says of one continuation.

    Attributes:
        log_likelihood: sum over its tokens, in nats.
        length: tokens.
        greedy: every token of it is the likeliest.
    """

    log_likelihood: float
    length: int
    greedy: bool

    def loss(self, ranking: str) -> float:
        """Return what is lowest for the best option: minus the ``mean`` per token, or the ``sum``."""
        return -self.log_likelihood / self.length if ranking == "mean" else -self.log_likelihood


@torch.no_grad()
def score_continuations(
    model: AdaptedModel, batch: OptionBatch, images: Images | None = None
) -> list[ContinuationScore]:
    """Score the options of a packed batch, which has neither leads nor tails, in their order.

    Args:
        images: features of the questions' pictures; None without any.
    """
    images, batch = images or Images(), batch.to(model.llama.device)
    states = lower_states(model.llama, batch, 0)  # (1, N, D)
    predicting = model.llama.run_layers(
        states, batch.positions, batch.packing, model.prefixes(images.features, images.present), wanted=batch.sources
    )  # (1, U, D)
    logits = model.llama.logits(predicting[0])  # (U, V)
    chosen = target_log_probabilities(logits, batch.source_of, batch.targets)  # (M,)
    likeliest = logits.argmax(dim=-1)[batch.source_of] == batch.targets  # (M,)
    count = len(batch.question_of)
    sums = chosen.new_zeros(count).index_add(0, batch.option_of, chosen)
    hits = torch.zeros_like(batch.lengths).index_add(0, batch.option_of, likeliest.to(batch.lengths.dtype))
    found = zip(sums.tolist(), batch.lengths.tolist(), hits.tolist(), strict=True)
    return [ContinuationScore(total, length, hit == length) for total, length, hit in found]
