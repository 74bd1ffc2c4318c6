"""``mm-adapter evaluate`` on conversations: how likely a model finds the responses of a split."""

import json
import math
from pathlib import Path
from typing import Any

from data.conversations import read_split
from mm_adapter.commands.tasks import count_cut, prepare_conversations
from mm_adapter.conversations import measure_responses
from mm_adapter.errors import UserError
from mm_adapter.files import write_json, write_text
from mm_adapter.model import MultimodalLlama
from mm_adapter.ranks import ALONE, Ranks

_LARGEST = 700.0  # beyond it, or for NaN, a perplexity is no number any more


def evaluate_responses(
    model: MultimodalLlama,
    data: str,
    split: str,
    out: Path,
    features: Path | None = None,
    images: Path | None = None,
    quiet: bool = False,
    ranks: Ranks = ALONE,
) -> dict[str, Any]:
    """Measure the loss per token of every response of a split; write metrics.json and responses.jsonl.

    Args:
        model: its wording puts the requests.
        data: file of conversations, or folder with a file for each split.
        split: ``train``, ``val`` or ``test``; a single file is all of every split.
        out: folder for the two files.
        features: folder of the feature store.
        images: folder of the pictures; beside the file by default.
        quiet: show no progress bars.
        ranks: the processes that share the conversations; the first one writes.

    Returns:
        What ``metrics.json`` holds: loss per token, perplexity (None where it is beyond all numbers), counts.

    Raises:
        UserError: bad data; nothing is written then.
    """
    progress = not quiet and ranks.is_first
    examples = prepare_conversations(model, read_split(data, split, images), features, progress, ranks)
    found = measure_responses(model, examples, ranks=ranks)
    if math.isnan(found.loss):
        raise UserError(f"{data}: the loss of the responses is not a number; the adapter or the model is damaged.")
    metrics = {
        "loss_per_token": found.loss,
        "perplexity": math.exp(found.loss) if found.loss < _LARGEST else None,
        "response_tokens": found.tokens,
        "conversations": len(examples.conversations),
        "shortened": count_cut(examples),
    }
    if not ranks.is_first:
        return metrics
    rows = [
        json.dumps({"id": sample.id, "loss_per_token": loss, "response_tokens": sum(sample.targets)})
        for sample, loss in zip(examples.conversations, found.by_conversation, strict=True)
    ]
    write_text(out / "responses.jsonl", "".join(row + "\n" for row in rows))
    write_json(out / "metrics.json", metrics)
    return metrics
