"""``mm-adapter convert``: adapters from and to the original V1 and V2 code, PEFT and litgpt."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mm_adapter.adapter import Adapter
from mm_adapter.adapter.checkpoint import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    AdapterDescription,
    base_name,
    check_base,
    load_adapter,
    read_description,
    save_adapter,
)
from mm_adapter.adapter.formats.litgpt import QKV, START_LAYER, read_litgpt, write_litgpt
from mm_adapter.adapter.formats.litgpt import WEIGHTS_FILE as LITGPT_FILE
from mm_adapter.adapter.formats.official import GATES, read_official, write_official
from mm_adapter.adapter.formats.official_v2 import read_official_v2, write_official_v2
from mm_adapter.adapter.formats.peft import read_peft, write_peft
from mm_adapter.core.errors import UserError, suggestion
from mm_adapter.core.fingerprint import ModelIdentity, join_digests
from mm_adapter.llama.checkpoints.load import check_tokenizer, describe_base, identify, open_source
from mm_adapter.llama.config import LlamaConfig

OWN = "mm-adapter"
FORMATS = (OWN, "official", "official-v2", "peft", "litgpt")
OFFICIAL_FILE = "adapter.pth"
V2_TOWER = "ViT-L-14/openai"
V2_VISION = {"depths": 0, "views": ("own",), "output": "tokens", "channel_order": "bgr"}
"""How the original V2 code looks at a picture: every token of the tower, red and blue swapped."""
_V2_TASK = {"prompt_template": "alpaca", "max_length": 512}


@dataclass(frozen=True)
class _Base:
    """The model that an adapter belongs to, as far as conversion needs it."""

    name: str
    config: LlamaConfig
    identity: ModelIdentity


@dataclass(frozen=True)
class TowerDescription:
    """The image tower of an adapter of the original V2 code, which that file does not name.

    Attributes:
        vision: as ``AdapterDescription`` keeps it.
        width: of its tokens, E.
    """

    vision: Mapping[str, Any]
    width: int


def convert(
    source: str,
    target: str,
    adapter: Path,
    out: Path,
    llama: str | None = None,
    layers: int | None = None,
    gate: str | None = None,
    qkv: str | None = None,
    query_heads: int | None = None,
    query_epsilon: float | None = None,
    tower: Callable[[], TowerDescription] | None = None,
    log: Callable[[str], None] = print,
) -> list[Path]:
    """Convert an adapter so that it gives the same logits in another project, or refuse and say what would be lost.

    Args:
        source, target: ``mm-adapter``, ``official`` (V1), ``official-v2`` (multimodal), ``peft`` or ``litgpt``; one of
            them is ours.
        adapter: folder of ours or PEFT's; file of the original; file or folder of litgpt.
        out: folder that gets the converted adapter; none of its files may be there yet.
        llama: name or path of the base model; None for that of an adapter of ours.
        layers: adapted layers of an adapter of the original, whose file does not say. None: ten prompts a layer.
        gate: ``tanh`` (the original's training code) or ``plain`` (its inference code). None: tanh.
        qkv: ``concatenated`` (litgpt 0.5.5 and later) or ``interleaved`` (earlier versions). None: concatenated.
        query_heads, query_epsilon: of the visual blocks of official-v2, see ``read_official_v2``.
        tower: opens the image tower of official-v2; needed to read it.
        log: receives lines for a person: what was assumed, and what the target does not keep.

    Returns:
        The files that were written.

    Raises:
        UserError: an option that does not apply, something missing or damaged, files in the way, or a format that
            cannot hold the adapter. Nothing is written then.
    """
    of_query = query_epsilon if query_heads is None else query_heads
    _check_options(source, target, layers, gate, qkv, of_query)
    files = {"official": [OFFICIAL_FILE], "official-v2": [OFFICIAL_FILE], "litgpt": [LITGPT_FILE]}.get(
        target, [WEIGHTS_FILE, CONFIG_FILE]
    )
    written = [out / name for name in files]
    in_the_way = [path for path in written if path.exists()]
    if in_the_way:
        raise UserError(f"{in_the_way[0]}: is there already; choose another --out, nothing was replaced.")
    notes: list[str] = []
    if source == OWN:
        description = read_description(adapter)
        base = _open_base(llama or base_name(adapter, description))
        note = check_base(adapter, description, base.name, base.identity.fingerprint, base.identity)
        notes += [] if note is None else [note]
        converted, _ = load_adapter(adapter, base.config)
        if target == "official-v2":
            _check_vision(description.vision)
        notes += _write(target, out, converted, base, gate or "tanh", qkv or QKV[0])
        if description.task and not (target == "official-v2" and description.task == _V2_TASK):
            notes.append("how questions were put is not part of that format: ask as the adapter was taught")
    else:
        if llama is None:
            raise UserError(f"--llama is missing: an adapter of {source} does not say for certain what it belongs to.")
        base = _open_base(llama)
        vision, task = None, {}
        if source == "official-v2":
            converted, notes = read_official_v2(adapter, base.config, query_heads, query_epsilon)
            vision, task = _see(adapter, converted, tower), _V2_TASK
            notes += _about_v2(vision)
        else:
            converted, notes = _read(source, adapter, base.config, layers, gate or "tanh", qkv or QKV[0])
        bound = describe_base(base.name, base.identity.fingerprint, base.identity)
        save_adapter(out, converted.state_dict(), AdapterDescription(converted.config, bound, vision, task))
    config = converted.config
    log(f"{adapter}: {config.layers} layers of {config.prompt_length} prompts, from layer {converted.first_layer}")
    for note in notes:
        log(f"  {note}")
    for path in written:
        log(f"wrote {path}")
    return written


def _check_options(
    source: str, target: str, layers: int | None, gate: str | None, qkv: str | None, of_query: float | None
) -> None:
    for option, value, known in (
        ("--from", source, FORMATS),
        ("--to", target, FORMATS),
        ("--gate", gate, (None, *GATES)),
        ("--qkv", qkv, (None, *QKV)),
    ):
        if value not in known:
            names = [name for name in known if name is not None]
            raise UserError(f"{option} {value!r} is not known{suggestion(str(value), names)}; {', '.join(names)} are.")
    if (source == OWN) == (target == OWN):
        raise UserError(f"--from {source} --to {target}: one side must be {OWN}, and only one; convert in two steps.")
    ends = (source, target)
    for option, chosen, owner in (
        ("--gate", gate, "official" in ends),
        ("--qkv", qkv, "litgpt" in ends),
        ("--layers", layers, source == "official"),
        ("--query-heads or --query-epsilon", of_query, source == "official-v2"),
    ):
        if chosen is not None and not owner:
            raise UserError(f"{option} says nothing about a conversion from {source} to {target}; leave it out.")


def _open_base(name: str) -> _Base:
    # Tensor by tensor, never the whole model: 7B would not fit where an adapter is converted.
    source = open_source(name)
    digests = {key: tensor.digest() for key, tensor in source.tensors()}
    return _Base(name, source.config, identify(join_digests(digests), source.config, check_tokenizer(name, source)))


def _read(
    source: str, path: Path, llama: LlamaConfig, layers: int | None, gate: str, qkv: str
) -> tuple[Adapter, list[str]]:
    """Return the adapter, and what was assumed of it."""
    if source == "peft":
        return read_peft(path, llama), ["gates without tanh, one per layer for all heads, as PEFT computes"]
    if source == "litgpt":
        return read_litgpt(path, llama, qkv), ["gates without tanh, as litgpt computes", _about_qkv(qkv)]
    assumed = [_about_gate(gate)]
    if layers is None:
        assumed.append("ten prompts a layer, as in every published adapter; say otherwise with --layers")
    return read_official(path, llama, layers, gate), assumed


def _see(path: Path, adapter: Adapter, tower: Callable[[], TowerDescription] | None) -> dict[str, Any]:
    """Return what is kept of the tower whose tokens the adapter takes.

    Raises:
        UserError: there is none, or its tokens are of another width.
    """
    if tower is None:
        raise UserError(
            "the image tower is missing: an adapter of official-v2 does not name the tower that it sees with."
        )
    seen = tower()
    if seen.width != adapter.config.image_size:
        raise UserError(
            f"{path}: takes tokens of width {adapter.config.image_size}, the tower {seen.vision['tower']} gives "
            f"{seen.width}; name the tower that it was trained with by --vision."
        )
    return dict(seen.vision)


def _about_v2(vision: Mapping[str, Any]) -> list[str]:
    return [
        f"pictures are seen by {vision['tower']}, every token of it",
        "red and blue of every picture are swapped, as in its training (channel_order bgr)",
        "where there is no picture it sees an all-zero one, as in its training (no_image zero-picture)",
        "prompts are Alpaca's; the original samples with --temperature 0.1 --top-p 0.75",
    ]


def _check_vision(vision: Mapping[str, Any] | None) -> None:
    """Refuse pictures that the original V2 code would see otherwise.

    Raises:
        UserError: it would.
    """
    for key, there in V2_VISION.items():
        own = None if vision is None else vision.get(key)
        if vision is not None and key != "depths" and own != (list(there) if isinstance(there, tuple) else there):
            raise UserError(
                f"the original V2 layout cannot hold this adapter: it was trained with {key} {own}, the original sees "
                f"pictures with {there}."
            )


def _write(target: str, out: Path, adapter: Adapter, base: _Base, gate: str, qkv: str) -> list[str]:
    """Write the adapter; return what its reader has to know."""
    if target == "peft":
        write_peft(out, adapter, base.config, base.name)
        return []
    if target == "official-v2":
        write_official_v2(out / OFFICIAL_FILE, adapter, base.config)
        return []
    if target == "official":
        write_official(out / OFFICIAL_FILE, adapter, base.config, gate)
        return [_about_gate(gate)]
    write_litgpt(out / LITGPT_FILE, adapter, base.config, qkv)
    notes = [_about_qkv(qkv)]
    if adapter.first_layer > START_LAYER:
        notes.append(f"layers {START_LAYER} to {adapter.first_layer - 1} have closed gates: litgpt adapts them too")
    length = adapter.config.prompt_length
    return [*notes, f"litgpt's configuration must have adapter_prompt_length: {length} (its default is 10)"]


def _about_gate(gate: str) -> str:
    if gate == "tanh":
        return "gates before tanh, as the original's training code has them (--gate plain: its inference code)"
    return "gates without tanh, as the original's inference code has them (--gate tanh: its training code)"


def _about_qkv(qkv: str) -> str:
    if qkv == "concatenated":
        return "prompt keys and values as litgpt computes them since 0.5.5 (--qkv interleaved: earlier versions)"
    return "prompt keys and values as litgpt computed them before 0.5.5 (--qkv concatenated: later versions)"
