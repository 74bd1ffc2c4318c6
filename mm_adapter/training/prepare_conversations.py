"""From a table of conversations or open questions to a task: read, encoded, with image features."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from mm_adapter.core.errors import UserError
from mm_adapter.core.files import cache_folder
from mm_adapter.data.conversation import Conversation
from mm_adapter.data.conversations import open_conversations
from mm_adapter.data.encoding import encode_conversation
from mm_adapter.data.question import TableOptions
from mm_adapter.distributed import SINGLE_PROCESS, DistributedContext
from mm_adapter.model import MultimodalLlama
from mm_adapter.scoring.encoded_sets import ConversationSet
from mm_adapter.training.config import TrainingConfig
from mm_adapter.training.prepare import PreparedTask, bad_pictures
from mm_adapter.training.task import ResponseTask
from mm_adapter.vision.features import extract_features


def conversation_task(
    model: MultimodalLlama,
    config: TrainingConfig,
    data: str,
    skip_bad: bool,
    features: Path | None,
    table: TableOptions | None,
    progress: bool,
    distributed: DistributedContext,
) -> PreparedTask:
    """Return the task of learning the responses of a table; arguments as in ``prepare_questions``."""
    found = open_conversations(data, table, skip_bad)
    if skip_bad:
        images = [item.image for items in found.splits.values() for item in items]
        if unseen := bad_pictures(model, images, features, progress, distributed):
            found = open_conversations(data, replace(table or TableOptions(), bad_pictures=unseen), skip_bad)
    sets: dict[str, ConversationSet] = {}
    skipped = dict(found.bad)
    for split in ("train", "val"):
        sets[split], bad = prepare_conversations(
            model, found.split(split), features, progress, distributed, skip_bad=skip_bad
        )
        skipped |= bad
    shortened = {split: count_cut(part) for split, part in sets.items()}
    task = ResponseTask(model, sets["train"], sets["val"], config)
    return PreparedTask(task, shortened, skipped, summary=found.summary)


def prepare_conversations(
    model: MultimodalLlama,
    conversations: Sequence[Conversation],
    features: Path | None = None,
    progress: bool = True,
    distributed: DistributedContext = SINGLE_PROCESS,
    skip_bad: bool = False,
) -> tuple[ConversationSet, dict[str, str]]:
    """Encode conversations in the model's template, with image features where it takes pictures.

    Returns:
        The set, and id -> reason of those that were left out.

    Raises:
        UserError: a picture that cannot be read, unless ``skip_bad``; one for a model that takes none; or none is left.
    """
    found: Mapping[Path, Tensor] = {}
    skipped: dict[str, str] = {}
    pictured = [conversation for conversation in conversations if conversation.image is not None]
    if pictured and model.vision is None:
        raise UserError(
            f"conversation {pictured[0].id} is about a picture ({len(pictured)} are), and this model takes none; train "
            "with an image tower (--vision NAME)."
        )
    if pictured:
        paths = [conversation.image for conversation in pictured if conversation.image is not None]
        store = features or cache_folder() / "features"
        found, bad = extract_features(
            model.tower, paths, store, skip_bad=skip_bad, progress=progress, distributed=distributed
        )
        skipped = {sample.id: bad[sample.image] for sample in pictured if sample.image in bad}
    usable = [sample for sample in conversations if sample.id not in skipped]
    if not usable:
        raise UserError(f"none of the {len(conversations)} conversations can be used: {next(iter(skipped.values()))}")
    template = model.conversation_template
    if skip_bad and (refusal := template.system_refusal if any(item.turns[0].system for item in usable) else ""):
        skipped |= {item.id: refusal for item in usable if item.turns[0].system}
        usable = [item for item in usable if item.id not in skipped]
        if not usable:
            raise UserError(f"none of the {len(conversations)} conversations can be used: {refusal}")
    encoded = [encode_conversation(sample, template, model.tokenizer, model.max_length) for sample in usable]
    return ConversationSet(encoded, found), skipped


def count_cut(examples: ConversationSet) -> int:
    """Return how many conversations lost something to fit."""
    return sum(
        bool(sample.cut_request or sample.cut_response or sample.dropped_exchanges) for sample in examples.conversations
    )
