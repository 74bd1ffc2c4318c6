"""Log-probabilities of single tokens, without a table of those of the whole vocabulary."""

from typing import Any

import torch
from torch import Tensor

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
        normaliser = torch.cat([rows.float().logsumexp(dim=-1) for rows in logits.split(ROWS)])
        ctx.save_for_backward(logits, normaliser, source_of, targets)
        return logits[source_of, targets].float() - normaliser[source_of]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        logits, normaliser, source_of, targets = ctx.saved_tensors
        # d log p(target) / d logits = [token is target] - softmax, summed over the targets of a row.
        of_rows = torch.zeros_like(normaliser).index_add_(0, source_of, gradient)
        result = torch.empty_like(logits)
        for start in range(0, len(logits), ROWS):
            part = slice(start, start + ROWS)
            probabilities = (logits[part].float() - normaliser[part, None]).exp_()
            result[part] = probabilities.mul_(-of_rows[part, None])
        result.index_put_((source_of, targets), gradient.to(result.dtype), accumulate=True)
        return result, None, None
