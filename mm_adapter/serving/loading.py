"""One base model in memory with any number of adapters for it."""

from collections.abc import Mapping
from pathlib import Path

import torch

from mm_adapter.adapter.checkpoint import base_name, read_description
from mm_adapter.core.errors import UserError
from mm_adapter.data.templates import Prompting
from mm_adapter.distributed import SINGLE_PROCESS
from mm_adapter.inference.prompting import ConversationPrompting
from mm_adapter.llama.checkpoints.load import DEFAULT_LLAMA, load_llama
from mm_adapter.model import MultimodalLlama
from mm_adapter.pretrained import read_parts
from mm_adapter.serving.engine import BASE
from mm_adapter.vision import ImageTower, VisionConfig, check_tower


def load_models(
    llama: str | None = None,
    adapters: Mapping[str, str | Path] | None = None,
    dtype: str | torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    quantization: str = "none",
    prompting: Prompting | ConversationPrompting | None = None,
) -> dict[str, MultimodalLlama]:
    """Return the model of every adapter by its name, and that without one as ``base``; all share the frozen weights.

    Image towers are loaded here, one for all adapters that see alike, so that no request waits for one.

    Args:
        llama: name or path of the base; None for that of the first adapter, or the default model.
        adapters: name -> folder of a trained adapter.
        dtype, device, quantization: of the base, see ``MultimodalLlama.from_pretrained``.
        prompting: how the base model is asked.

    Raises:
        UserError: something is missing or damaged, belongs to another base, or is named ``base``; or a run has trained
            the model's own weights, which the others would then compute with.
    """
    folders = {name: Path(folder) for name, folder in (adapters or {}).items()}
    if BASE in folders:
        raise UserError(f"an adapter is named {BASE!r}, which is the model without one; give it another name.")
    for name, folder in folders.items():
        description = read_description(folder)
        if description.finetune is not None:
            raise UserError(
                f"{folder}: {name} has trained the model's own weights, so it shares no base; serve adapters."
            )
        llama = llama or base_name(folder, description)
    kind = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    base = load_llama(llama or DEFAULT_LLAMA, kind, device, quantization)
    models = {BASE: MultimodalLlama(base, prompting=prompting)}
    towers: dict[VisionConfig, ImageTower] = {}
    for name, folder in folders.items():
        parts = read_parts(llama, folder, None, kind, device, quantization, SINGLE_PROCESS, base)
        tower = None
        if parts.vision is not None:
            tower = towers.setdefault(
                parts.vision, towers.get(parts.vision) or ImageTower(parts.vision, base.model.device)
            )
            check_tower(tower, parts.vision_fingerprint)
        models[name] = MultimodalLlama(**vars(parts), tower=tower)
    return models
