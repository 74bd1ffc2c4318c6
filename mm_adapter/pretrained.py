"""The folder of a trained adapter: read together with the base model that it was trained on, and written.

On the CPU the ranks of a host hold one copy of the base model's weights.
"""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from mm_adapter.adapter import Adapter
from mm_adapter.adapter.checkpoint import (
    WEIGHTS_FILE,
    AdapterDescription,
    adapter_folder,
    base_name,
    check_base,
    load_adapter,
    read_description,
    read_weights,
    save_adapter,
)
from mm_adapter.adapter.finetune import FinetunedWeights, load_finetuned, prepare_finetuning
from mm_adapter.core.errors import UserError, located
from mm_adapter.data.templates import Prompting
from mm_adapter.distributed import DistributedContext, check_device
from mm_adapter.inference.prompting import ConversationPrompting
from mm_adapter.llama.checkpoints.load import (
    DEFAULT_LLAMA,
    LoadedLlama,
    check_tensors,
    check_tokenizer,
    identify,
    load_llama,
    open_source,
)
from mm_adapter.llama.model import Llama
from mm_adapter.llama.tokenizers.chat_template import find_chat_template
from mm_adapter.vision import VisionConfig

_RENAMED = {"wording": "prompt_template"}  # keys of adapters that were saved before 0.2


@dataclass(frozen=True)
class PretrainedParts:
    """What a ``MultimodalLlama`` is made of; see there."""

    base: LoadedLlama
    adapter: Adapter | None = None
    vision: VisionConfig | None = None
    prompting: Prompting | ConversationPrompting | None = None
    vision_fingerprint: str | None = None
    finetuned: FinetunedWeights | None = None


def read_parts(
    llama: str | None,
    adapter: str | Path | None,
    vision: str | None,
    dtype: str | torch.dtype,
    device: str | torch.device,
    quantization: str,
    distributed: DistributedContext,
    loaded: LoadedLlama | None = None,
) -> PretrainedParts:
    """Return the parts that fit together, or say why they do not; arguments as ``MultimodalLlama.from_pretrained``.

    Args:
        loaded: the base model, where it is in memory already; adapters of one base can share it.

    Raises:
        UserError: something is missing or damaged, or the parts do not belong together.
    """
    check_device(str(device))
    kind = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    read: Callable[[str], LoadedLlama] = partial(load_llama, dtype=kind, device=device, quantization=quantization)
    if distributed.world_size > 1 and str(device) == "cpu" and quantization == "none":
        read = partial(load_shared, dtype=kind, distributed=distributed)
    if adapter is None:
        config = None if vision is None else VisionConfig(vision)
        return PretrainedParts(read(llama or DEFAULT_LLAMA), vision=config)
    folder = adapter_folder(adapter)
    description = read_description(folder)
    base = loaded or read(llama or base_name(folder, description))
    note = check_base(folder, description, base.name, base.fingerprint, base.identity)
    if note is not None and distributed.is_main:
        print(note, file=sys.stderr)
    if description.finetune is not None:
        finetuned = prepare_finetuning(base.model, description.finetune, training=False)
        load_finetuned(finetuned, read_weights(folder / WEIGHTS_FILE), str(folder / WEIGHTS_FILE))
        base.model.requires_grad_(False)
        return PretrainedParts(base, prompting=_read_prompting(folder, description), finetuned=finetuned)
    weights, description = load_adapter(folder, base.model.config)
    seen = description.vision
    if vision is not None and (seen is None or seen["tower"] != vision):
        raise UserError(f"{folder}: trained with image tower {seen and seen['tower']}, not {vision}.")
    config = None if seen is None else _vision_config(seen)
    prompting = _read_prompting(folder, description)
    return PretrainedParts(base, weights, config, prompting, None if seen is None else seen["fingerprint"])


def _vision_config(seen: dict[str, Any]) -> VisionConfig:
    # Adapters of earlier versions say nothing of what they left no choice of.
    more = {key: seen[key] for key in ("output", "channel_order") if key in seen}
    return VisionConfig(seen["tower"], seen["depths"], tuple(seen["views"]), **more)


def _read_prompting(folder: Path, description: AdapterDescription) -> Prompting | ConversationPrompting:
    try:
        task = {_RENAMED.get(key, key): value for key, value in description.task.items()}
        with located(folder):
            return (ConversationPrompting if "prompt_template" in task else Prompting)(**task)
    except TypeError as error:
        raise UserError(f"{folder}: damaged adapter configuration, task: {error}.") from error


def write_pretrained(
    folder: Path,
    trained: Adapter | FinetunedWeights,
    base: dict[str, Any],
    vision: VisionConfig | None,
    vision_fingerprint: str | None,
    prompting: Prompting | ConversationPrompting,
) -> None:
    """Write what was trained, with the names and fingerprints of what it belongs to.

    Args:
        base: of the base model, as ``LoadedLlama.describe`` returns it.
        vision: the image features that the adapter takes; ``vision_fingerprint`` is that of their tower.
        prompting: how questions or requests are put.

    Raises:
        UserError: the folder cannot be written.
    """
    task = asdict(prompting)
    if isinstance(trained, FinetunedWeights):
        save_adapter(folder, trained.tensors(), AdapterDescription(None, base, None, task, trained.config))
        return
    described = None
    if vision is not None and trained.config.image_size:
        usual = {"output": "global", "channel_order": "rgb"}  # not named, so that earlier versions know the file
        settings = {key: value for key, value in asdict(vision).items() if usual.get(key) != value}
        described = {**settings, "fingerprint": vision_fingerprint}
    save_adapter(folder, trained.state_dict(), AdapterDescription(trained.config, base, described, task))


def load_shared(name: str, dtype: torch.dtype, distributed: DistributedContext) -> LoadedLlama:
    """Load a model on the CPU of every rank, so that the ranks of a host hold its weights once.

    What has to be converted is converted by the first rank of each host, which writes it to a file that all map: a page
    of it is in memory once, however many look at it. The file has no name any more as soon as all have opened it.

    Args:
        name, dtype: as for ``load_llama``.
        distributed: the processes.

    Raises:
        UserError: as ``load_llama``.
    """
    mapped = all(
        tensor.mapped is not None and tensor.mapped.dtype == dtype
        for tensor in check_tensors(name, open_source(name)).values()
    )
    # The same decision on all hosts, whatever the processes of each: what follows, all ranks do together.
    if all(distributed.gather(mapped or distributed.local_world_size == 1)):
        return load_llama(name, dtype)
    with tempfile.TemporaryDirectory(prefix="mm-adapter-") as folder:
        path, weights = Path(folder) / "weights.safetensors", ""
        if distributed.local_rank == 0:
            base = load_llama(name, dtype)
            weights = base.identity.weights if base.identity is not None else ""
            save_file(dict(base.model.state_dict()), path)
            del base
        # Ranks of one host are neighbours: its first one is local_rank places before.
        path, weights = distributed.gather((path, weights))[distributed.rank - distributed.local_rank]
        shared = _map(name, path, weights)
        distributed.gather(None)
    return shared


def _map(name: str, path: Path, weights: str) -> LoadedLlama:
    source = open_source(name)
    tokenizer = check_tokenizer(name, source)
    with torch.device("meta"):
        model = Llama(source.config)
    model.load_state_dict(load_file(path), assign=True)
    model.requires_grad_(False).eval()
    chat = None if tokenizer is None else find_chat_template(tokenizer, source.chat_template())
    identity = identify(weights, source.config, tokenizer)
    return LoadedLlama(model, tokenizer, name, identity.fingerprint, chat, identity)
