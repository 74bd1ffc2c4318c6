"""What a model, adapter or feature store is, and whether it is usable here."""

import math
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import safe_open

from mm_adapter.adapter import AdapterConfig
from mm_adapter.adapter.checkpoint import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    AdapterDescription,
    base_name,
    check_base,
    load_adapter,
    read_description,
)
from mm_adapter.core.errors import UserError
from mm_adapter.core.files import HUB, read_json, refuse_pointer
from mm_adapter.core.fingerprint import join_digests, tensors_fingerprint
from mm_adapter.inference.file_kinds import foreign_adapter, kind_of
from mm_adapter.llama.checkpoints.load import DEFAULT_LLAMA, check_tensors, check_tokenizer, identify, open_source
from mm_adapter.llama.checkpoints.source import StoredTensor, WeightSource
from mm_adapter.llama.config import LlamaConfig, RopeScaling
from mm_adapter.llama.tokenizers.chat_template import ChatTemplate, find_chat_template
from mm_adapter.llama.tokenizers.tokenizer import Tokenizer

_STORE_KEYS = ("tower", "fingerprint", "depths", "views")


@dataclass(frozen=True)
class Inspection:
    """What was found under a name.

    Attributes:
        name: as the user gave it.
        kind: ``model``, ``adapter`` or ``feature store``; of what is none of them ``picture``, ``file`` or ``folder``.
        usable: whether this installation, on this machine, can work with it.
        reason: why not; empty where it is usable.
        facts: everything else, by name, ready for JSON.
    """

    name: str
    kind: str
    usable: bool
    reason: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return all of it as one flat object."""
        return {"name": self.name, "kind": self.kind, "usable": self.usable, "reason": self.reason, **self.facts}

    def to_text(self) -> str:
        """Return one line a fact, for people."""
        verdict = "yes" if self.usable else f"no: {self.reason}"
        lines = {"name": self.name, "kind": self.kind, **self.facts, "usable": verdict}
        width = max(map(len, lines))
        return "\n".join(f"{key:<{width}}  {_as_text(value)}" for key, value in lines.items())


def inspect(name: str) -> Inspection:
    """Say what ``name`` is: a model's name, file or folder, an adapter's folder, a feature store's file or folder.

    Nothing is loaded: of each tensor of a model a few rows are read, for the fingerprint. A model or adapter that
    cannot be used is described as far as it goes, with the reason.

    Raises:
        UserError: there is nothing of that name.
    """
    path = _published(name) if name.startswith(HUB) else Path(name).expanduser()
    if path.is_dir() and (path / CONFIG_FILE).is_file():
        return _inspect_adapter(name, path)
    foreign = foreign_adapter(path)
    if foreign is not None:
        return Inspection(name, foreign[0], False, foreign[1])
    for file in [path] if path.suffix == ".safetensors" else sorted(path.glob("*.safetensors")):
        if (description := _store_description(file)) is not None:
            return _inspect_store(name, file, description)
    if path.exists():
        try:
            source = open_source(name)
        except UserError as error:
            return Inspection(name, kind_of(path), False, str(error))
    else:
        source = open_source(name)
    return _inspect_model(name, source)


def _published(name: str) -> Path:
    """Return the folder that an adapter of the hub was fetched to; a name without a file for a model."""
    from mm_adapter.core.hub_adapter import fetch_adapter, is_adapter  # few look at what is not on their machine

    return fetch_adapter(name) if is_adapter(name) else Path(name)


def _inspect_model(name: str, source: WeightSource) -> Inspection:
    config = source.config
    facts: dict[str, Any] = {"format": source.layout, "family": _family(config), **_shape(config)}
    try:
        stored = check_tensors(name, source)
        facts |= _weights(stored)
        tokenizer = check_tokenizer(name, source)
        if tokenizer is None:
            return Inspection(name, "model", False, "its files have no tokenizer.", facts)
        begin = " ".join(tokenizer.piece(token) for token in tokenizer.begin)
        facts |= {
            "vocabulary": tokenizer.vocab_size,
            "padding": config.vocab_size - tokenizer.vocab_size,
            "begin": begin,
            "end": tokenizer.piece(tokenizer.end),
        }
        chat = find_chat_template(tokenizer, source.chat_template())
        facts["chat"] = None if chat is None else _chat_name(chat)
        facts |= _version_note(Path(name).expanduser(), tokenizer)
        weights = join_digests({key: tensor.digest() for key, tensor in stored.items()})
        facts |= {"fingerprint": identify(weights, config, tokenizer).fingerprint, "weights_fingerprint": weights}
    except UserError as error:
        return Inspection(name, "model", False, str(error), facts)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else math.inf
    if 2 * facts["parameters"] > memory:
        needed, there = 2 * facts["parameters"] / 1e9, memory / 1e9
        reason = f"it takes {needed:.1f} GB in half precision, this machine has {there:.1f} GB."
        return Inspection(name, "model", False, reason, facts)
    return Inspection(name, "model", True, facts=facts)


def _version_note(folder: Path, tokenizer: Tokenizer) -> dict[str, Any]:
    if not (folder / "config.json").is_file() or getattr(tokenizer, "names", None) is None:
        return {}
    from mm_adapter.llama.tokenizers.settings import about_versions

    note = about_versions(folder, tokenizer)
    return {} if note is None else {"note": note}


def _chat_name(chat: ChatTemplate) -> str:
    try:
        chat.render([{"role": "user", "content": "Hello"}])
    except UserError as error:
        return f"{chat.name}, not usable: {error}"
    return chat.name


def _shape(config: LlamaConfig) -> dict[str, Any]:
    scaling = config.rope_scaling
    stretched = "none" if scaling is None else "llama3" if isinstance(scaling, RopeScaling) else "divisors"
    return {
        "layers": config.num_layers,
        "hidden_size": config.hidden_size,
        "heads": config.num_heads,
        "key_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.intermediate_size,
        "context_length": config.context_length,
        "rope_theta": config.rope_theta,
        "rope_scaling": stretched,
        "tied_embeddings": config.tied_embeddings,
        "attention_bias": config.attention_bias,
        "mlp_bias": config.mlp_bias,
        "position_limit": config.position_limit,
        "embedding_rows": config.vocab_size,
    }


def _weights(stored: dict[str, StoredTensor]) -> dict[str, Any]:
    sizes: Counter[str] = Counter()
    for tensor in stored.values():
        sizes[tensor.dtype] += math.prod(tensor.shape)
    return {"parameters": sizes.total(), "dtype": [kind for kind, _ in sizes.most_common()]}


def _family(config: LlamaConfig) -> str:
    """Return the family that a shape belongs to, as far as a shape can tell."""
    if config.rope_scaling is not None:
        return "Llama 3.1 or later" if config.rope_theta == 500000 else "LLaMA with stretched positions"
    known = {
        (49152, 576): "SmolLM2",
        (49152, 960): "SmolLM2",
        (49152, 2048): "SmolLM2",
        (32000, 2048): "TinyLlama",
        (128256, config.hidden_size): "Llama 3",
    }
    named = known.get((config.vocab_size, config.hidden_size))
    if named is not None:
        return named
    if config.vocab_size in (32000, 32768) and (config.hidden_size, config.num_kv_heads) == (4096, 8):
        return "Mistral"
    return "LLaMA 1 or 2" if config.vocab_size == 32000 else "LLaMA architecture"


def _inspect_adapter(name: str, folder: Path) -> Inspection:
    facts: dict[str, Any] = {}
    try:
        values = read_json(folder / CONFIG_FILE, "adapter configuration")
        if isinstance(values, dict) and "peft_type" in values:
            facts["format"] = f"PEFT {values['peft_type']}"
        description = read_description(folder)
        base = description.llama
        facts |= {
            "format": "mm-adapter",
            **_adapter_shape(description),
            "vision": None if description.vision is None else description.vision["tower"],
            "base": base["name"],
            "base_fingerprint": base["fingerprint"],
        }
        facts |= _adapter_weights(folder / WEIGHTS_FILE)
        found = base_name(folder, description)
        if found != DEFAULT_LLAMA and not Path(found).expanduser().exists():
            reason = f"its base model {found} is not on this machine; name it with --llama."
            return Inspection(name, "adapter", False, reason, facts)
        source = open_source(found)
        if description.adapter is not None:
            load_adapter(folder, source.config)
        weights = join_digests({key: tensor.digest() for key, tensor in check_tensors(found, source).items()})
        identity = identify(weights, source.config, check_tokenizer(found, source))
        facts["note"] = check_base(folder, description, found, identity.fingerprint, identity)
    except UserError as error:
        return Inspection(name, "adapter", False, str(error), facts)
    return Inspection(name, "adapter", True, facts=facts)


def _adapter_shape(description: AdapterDescription) -> dict[str, Any]:
    adapter, finetune = description.adapter, description.finetune
    if adapter is None:
        assert finetune is not None
        return {"family": finetune.method} | ({"rank": finetune.rank} if finetune.method == "lora" else {})
    return {
        "family": adapter.attention,
        "layers": adapter.layers,
        "prompt_length": adapter.prompt_length,
        "image_size": adapter.image_size,
    } | _v2_shape(adapter, description.vision)


def _v2_shape(adapter: AdapterConfig, vision: dict[str, Any] | None) -> dict[str, Any]:
    """Return what an adapter has beyond V1: only where it does."""
    facts: dict[str, Any] = {}
    if adapter.image_prompts != "shared":
        facts["image_prompts"] = adapter.image_prompts
    if adapter.tunes_weights:
        changed = ("biases", "output_scales", "norms", "lora_rank")
        facts["tunes"] = [name for name in changed if getattr(adapter, name)]
    if adapter.lora_rank:
        facts["rank"] = adapter.lora_rank
    if adapter.no_image != "prompts":
        facts["no_image"] = adapter.no_image
    if vision is not None and vision.get("channel_order", "rgb") != "rgb":
        facts["channel_order"] = vision["channel_order"]
    return facts


def _adapter_weights(path: Path) -> dict[str, Any]:
    refuse_pointer(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    except Exception as error:  # missing, or damaged in any of the ways that the library and torch can tell
        raise UserError(f"{path}: the adapter's weights cannot be read ({error}). Copy or train it again.") from error
    dtypes = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()})
    return {
        "parameters": sum(tensor.numel() for tensor in tensors.values()),
        "dtype": dtypes,
        "fingerprint": tensors_fingerprint(tensors),
    }


def _store_description(path: Path) -> dict[str, str] | None:
    """Return the description of a feature store, or None where the file is none."""
    try:
        refuse_pointer(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except Exception:  # whatever is wrong with it, it is not a store; the reader of models will say more
        return None
    return metadata if all(key in metadata for key in _STORE_KEYS) else None


def _inspect_store(name: str, path: Path, description: dict[str, str]) -> Inspection:
    facts: dict[str, Any] = {"file": str(path), "family": description["tower"], **description}
    with safe_open(path, framework="pt") as file:
        keys = list(file.keys())
        widths = {tuple(file.get_slice(key).get_shape()) for key in keys}
        facts |= {"pictures": len(keys), "dtype": sorted({file.get_slice(key).get_dtype() for key in keys})}
    facts["width"] = max((shape[-1] for shape in widths if shape), default=0)
    facts["parameters"] = max(map(math.prod, widths), default=0) * len(keys)
    if len(widths) > 1:
        return Inspection(name, "feature store", False, "its features differ in width; delete it.", facts)
    return Inspection(name, "feature store", True, facts=facts)


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else "none" if value in (None, "") else str(value)
