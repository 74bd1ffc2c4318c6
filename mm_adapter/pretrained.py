"""What a folder of a trained adapter holds, put together with the base model that it was trained on."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mm_adapter.adapter.adapter import Adapter
from mm_adapter.adapter.checkpoint import (
    WEIGHTS_FILE,
    AdapterDescription,
    check_base,
    load_adapter,
    read_description,
    read_weights,
)
from mm_adapter.adapter.finetune import FinetunedWeights, load_finetuned, prepare_finetuning
from mm_adapter.core.errors import UserError
from mm_adapter.data.prompts import Prompting
from mm_adapter.inference.conversation_prompts import ConversationPrompting
from mm_adapter.llama.checkpoints.load import DEFAULT_LLAMA, LoadedLlama
from mm_adapter.vision import VisionConfig


@dataclass(frozen=True)
class Parts:
    """What a ``MultimodalLlama`` is made of; see there."""

    base: LoadedLlama
    adapter: Adapter | None = None
    vision: VisionConfig | None = None
    prompting: Prompting | ConversationPrompting | None = None
    vision_fingerprint: str | None = None
    update: FinetunedWeights | None = None


def read_parts(
    read: Callable[[str], LoadedLlama], llama: str | None, adapter: str | Path | None, vision: str | None
) -> Parts:
    """Return the parts that fit together, or say why they do not.

    Args:
        read: reads the base model by its name.
        llama, adapter, vision: see ``MultimodalLlama.from_pretrained``.

    Raises:
        UserError: something is missing or damaged, or the parts do not belong together.
    """
    if adapter is None:
        config = None if vision is None else VisionConfig(vision)
        return Parts(read(llama or DEFAULT_LLAMA), vision=config)
    folder = Path(adapter)
    description = read_description(folder)
    base = read(llama or description.llama["name"])
    check_base(folder, description, base.name, base.fingerprint)
    if description.update is not None:
        update = prepare_finetuning(base.model, description.update, training=False)
        load_finetuned(update, read_weights(folder / WEIGHTS_FILE), str(folder / WEIGHTS_FILE))
        base.model.requires_grad_(False)
        return Parts(base, prompting=_read_prompting(folder, description), update=update)
    weights, description = load_adapter(folder, base.model.config)
    seen = description.vision
    if vision is not None and (seen is None or seen["tower"] != vision):
        raise UserError(f"{folder}: trained with image tower {seen and seen['tower']}, not {vision}.")
    config = None if seen is None else VisionConfig(seen["tower"], seen["depths"], tuple(seen["views"]))
    prompting = _read_prompting(folder, description)
    return Parts(base, weights, config, prompting, None if seen is None else seen["fingerprint"])


def _read_prompting(folder: Path, description: AdapterDescription) -> Prompting | ConversationPrompting:
    try:
        # Conversations have a wording, questions a template.
        return (ConversationPrompting if "wording" in description.task else Prompting)(**description.task)
    except TypeError as error:
        raise UserError(f"{folder}: damaged adapter configuration, task: {error}.") from error
