"""Adapters on disk: adapter_config.json and adapter_model.safetensors."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mm_adapter.adapter import Adapter, AdapterConfig
from mm_adapter.adapter.finetune import FinetuneConfig
from mm_adapter.core.errors import UserError
from mm_adapter.core.files import HUB, read_json, refuse_pointer, write_atomically, write_json
from mm_adapter.core.fingerprint import ModelIdentity
from mm_adapter.llama.config import LlamaConfig

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True)
class AdapterDescription:
    """All of an adapter but its weights.

    Attributes:
        adapter: shape and kind; None where no adapter but the model's own weights were trained.
        llama: the base model that it was trained on: ``name``, ``fingerprint`` and, save in older files, that of its
            ``weights`` and what it ``computes`` with them.
        vision: tower, fingerprint, depths, views, output and channel order of the image features; None for a text-only
            adapter.
        task: how questions were put, for whoever answers with it; opaque here.
        finetune: how the model's own weights were trained; None for an adapter.
    """

    adapter: AdapterConfig | None
    llama: dict[str, Any]
    vision: dict[str, Any] | None
    task: dict[str, Any]
    finetune: FinetuneConfig | None = None


def save_adapter(folder: Path, tensors: Mapping[str, Tensor], description: AdapterDescription) -> None:
    """Write both files, each in one step, the weights first: a folder with a configuration is complete.

    Raises:
        UserError: the folder cannot be written.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(folder / WEIGHTS_FILE, lambda path: save_file(tensors, path, metadata={"format": "pt"}))
    write_json(folder / CONFIG_FILE, {"format": "mm-adapter", "version": 1, **asdict(description)})


def read_description(folder: Path) -> AdapterDescription:
    """Return what ``adapter_config.json`` says.

    Raises:
        UserError: the file is missing, not JSON, or not of this format.
    """
    path = folder / CONFIG_FILE
    values = read_json(path, "adapter configuration")
    if not isinstance(values, dict) or values.get("format") != "mm-adapter":
        raise UserError(f"{path}: not an adapter of mm-adapter; convert adapters of other projects first.")
    if values.get("version") != 1:
        raise UserError(f"{path}: format version {values.get('version')!r} is newer than this program; update it.")
    try:
        finetune = values.get("finetune", values.get("update"))  # written as update before 0.2
        finetune = None if finetune is None else FinetuneConfig(**finetune)
        adapter = None if finetune is not None else _adapter_config(values["adapter"])
        llama, vision, task = dict(values["llama"]), values["vision"], dict(values["task"])
        if not isinstance(llama["name"], str) or not isinstance(llama["fingerprint"], str):
            raise TypeError("llama names no model")
        if not isinstance(llama.get("weights", ""), str) or not isinstance(llama.get("computes", {}), dict):
            raise TypeError("llama does not say what it computes")
        if vision is not None:
            _check_vision(vision)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: damaged adapter configuration ({error}).") from error
    return AdapterDescription(adapter, llama, vision, task, finetune)


def _adapter_config(values: dict[str, Any]) -> AdapterConfig:
    known = {field.name for field in fields(AdapterConfig)}
    chosen = {key: value for key, value in values.items() if key in known}
    if isinstance(pieces := chosen.get("image_pieces"), list) and all(type(width) is int for width in pieces):
        chosen["image_pieces"] = tuple(pieces)
    wrong = [key for key, value in chosen.items() if type(value) is not type(getattr(AdapterConfig, key))]
    if wrong:
        raise TypeError(f"{wrong[0]} of the adapter is {chosen[wrong[0]]!r}")
    return AdapterConfig(**chosen)


def _check_vision(vision: dict[str, Any]) -> None:
    kinds = {"tower": str, "fingerprint": str, "depths": int, "views": list | tuple}
    wrong = [key for key, kind in kinds.items() if not isinstance(vision[key], kind)]
    if not wrong and not all(isinstance(view, str) for view in vision["views"]):
        wrong = ["views"]
    wrong += [key for key in ("output", "channel_order") if not isinstance(vision.get(key, ""), str)]
    if wrong:
        raise TypeError(f"vision has no usable {wrong[0]}")


def adapter_folder(adapter: str | Path) -> Path:
    """Return the folder of an adapter; one that is named ``hub:owner/name`` is fetched from the hub.

    Raises:
        UserError: it cannot be fetched.
    """
    if not str(adapter).startswith(HUB):
        return Path(adapter)
    # Imported here: only who names one of the hub needs it.
    from mm_adapter.core.hub_adapter import fetch_adapter

    return fetch_adapter(str(adapter))


def base_name(folder: Path, description: AdapterDescription) -> str:
    """Return the base model that an adapter names; a relative path is looked for beside it and above as well."""
    name: str = description.llama["name"]
    places = [folder.resolve(), *folder.resolve().parents]
    if not Path(name).is_absolute() and not Path(name).expanduser().exists():
        return next((str(place / name) for place in places if (place / name).exists()), name)
    return name


def check_base(
    folder: Path, description: AdapterDescription, name: str, fingerprint: str, identity: ModelIdentity | None = None
) -> str | None:
    """Refuse a base model that the adapter was not trained on, by name.

    Args:
        name, fingerprint, identity: of the base model at hand.

    Returns:
        A line for a person where the adapter is an older one, which notes the weights of its base alone; else None.

    Raises:
        UserError: the weights differ, or what is computed with them.
    """
    trained = description.llama
    computes = trained.get("computes", {})
    differ = [] if identity is None else identity.differences(computes)
    if trained["fingerprint"] == fingerprint and not differ:
        return None
    same_weights = identity is not None and trained.get("weights") == identity.weights
    if identity is not None and same_weights and not differ and computes.keys() != identity.computes.keys():
        return None  # one of them has no tokenizer
    if identity is not None and "weights" not in trained and trained["fingerprint"] == identity.weights:
        return (
            f"{folder}: an older adapter, which notes the weights of its base model alone; that {name} begins "
            "sequences and rotates positions as in training is taken for granted. Saved again, the adapter notes it."
        )
    if same_weights and differ:
        raise UserError(
            f"{folder}: this adapter was trained on {trained['name']}; {name} has the same weights, but computes "
            f"something else with them ({'; '.join(differ)} differ). Use --llama with the model it was trained on."
        )
    weights = fingerprint if identity is None or "weights" not in trained else identity.weights
    raise UserError(
        f"{folder}: this adapter was trained on {trained['name']} "
        f"(weights {trained.get('weights', trained['fingerprint'])[:12]}), not on {name}, which has other weights "
        f"({weights[:12]}). "
        f"Use --llama with the model it was trained on."
    )


def load_adapter(folder: Path, llama: LlamaConfig) -> tuple[Adapter, AdapterDescription]:
    """Read an adapter for a model of the given shape.

    Raises:
        UserError: a file is missing or damaged, or a tensor is missing, surplus, misshapen or not finite.
    """
    description = read_description(folder)
    if description.adapter is None:
        raise UserError(f"{folder}: holds fine-tuned weights of a model, not an adapter.")
    path = folder / WEIGHTS_FILE
    tensors = read_weights(path)
    # Without values first: sizes that a damaged configuration asks for cost no memory.
    with torch.device("meta"):
        adapter = Adapter(description.adapter, llama)
    wanted = {name: tuple(tensor.shape) for name, tensor in adapter.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if wanted != found:
        wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        first = wrong[0]
        raise UserError(
            f"{path}: {first} has shape {found.get(first, 'none')}, its configuration on this model asks for "
            f"{wanted.get(first, 'none')} ({len(wrong)} tensors differ)."
        )
    # In float32 whatever the file holds, and in memory of its own: the file may be replaced by a training that goes on.
    adapter.load_state_dict({name: tensor.float().clone() for name, tensor in tensors.items()}, assign=True)
    return adapter, description


def start_from(
    adapter: Adapter,
    folder: Path,
    llama: LlamaConfig,
    name: str,
    fingerprint: str,
    identity: ModelIdentity | None = None,
) -> None:
    """Fill an adapter with the weights of one that was trained before, such as in a first stage.

    Args:
        llama: shape of the base model at hand.
        name, fingerprint, identity: of it, as for ``check_base``.

    Raises:
        UserError: there is none, it is of another shape, or of another base model.
    """
    trained, description = load_adapter(folder, llama)
    check_base(folder, description, name, fingerprint, identity)
    if adapter.config != trained.config:
        own, found = asdict(adapter.config), asdict(trained.config)
        key = next(key for key in own if own[key] != found[key])
        raise UserError(
            f"start_from {folder}: its {key} is {found[key]!r}, that of the adapter to be trained {own[key]!r}; use "
            "the settings of its config.json."
        )
    adapter.load_state_dict(trained.state_dict())


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of ``adapter_model.safetensors``.

    Raises:
        UserError: the file is missing or damaged, or a value is not finite.
    """
    refuse_pointer(path)
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path}: the adapter's weights are missing.") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error}). Copy or train it again.") from error
    whole = [name for name, tensor in tensors.items() if not tensor.is_floating_point()]
    if whole:
        raise UserError(f"{path}: {whole[0]} is of {tensors[whole[0]].dtype}, not of floats. Copy or train it again.")
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        raise UserError(f"{path}: {broken[0]} holds values that are not finite; the adapter is unusable.")
    return tensors
