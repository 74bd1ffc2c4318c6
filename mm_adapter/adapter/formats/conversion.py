"""``mm-adapter convert``: adapters from and to the original V1 code, PEFT and litgpt."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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
from mm_adapter.adapter.formats.peft import read_peft, write_peft
from mm_adapter.core.errors import UserError, suggestion
from mm_adapter.core.fingerprint import ModelIdentity, join_digests
from mm_adapter.llama.checkpoints.load import check_tokenizer, describe_base, identify, open_source
from mm_adapter.llama.config import LlamaConfig

OWN = "mm-adapter"
FORMATS = (OWN, "official", "peft", "litgpt")
OFFICIAL_FILE = "adapter.pth"


@dataclass(frozen=True)
class _Base:
    """The model that an adapter belongs to, as far as conversion needs it."""

    name: str
    config: LlamaConfig
    identity: ModelIdentity


def convert(
    source: str,
    target: str,
    adapter: Path,
    out: Path,
    llama: str | None = None,
    layers: int | None = None,
    gate: str | None = None,
    qkv: str | None = None,
    log: Callable[[str], None] = print,
) -> list[Path]:
    """Convert an adapter so that it gives the same logits in another project, or refuse and say what would be lost.

    Args:
        source, target: ``mm-adapter``, ``official`` (V1), ``peft`` or ``litgpt``; one of them is ours.
        adapter: folder of ours or PEFT's; file of the original; file or folder of litgpt.
        out: folder that gets the converted adapter; none of its files may be there yet.
        llama: name or path of the base model; None for that of an adapter of ours.
        layers: adapted layers of an adapter of the original, whose file does not say. None: ten prompts a layer.
        gate: ``tanh`` (the original's training code) or ``plain`` (its inference code). None: tanh.
        qkv: ``concatenated`` (litgpt 0.5.5 and later) or ``interleaved`` (earlier versions). None: concatenated.
        log: receives lines for a person: what was assumed, and what the target does not keep.

    Returns:
        The files that were written.

    Raises:
        UserError: an option that does not apply, something missing or damaged, files in the way, or a format that
            cannot hold the adapter. Nothing is written then.
    """
    _check_options(source, target, layers, gate, qkv)
    files = {"official": [OFFICIAL_FILE], "litgpt": [LITGPT_FILE]}.get(target, [WEIGHTS_FILE, CONFIG_FILE])
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
        notes += _write(target, out, converted, base, gate or "tanh", qkv or QKV[0])
        if description.task:
            notes.append("how questions were put is not part of that format: ask as the adapter was taught")
    else:
        if llama is None:
            raise UserError(f"--llama is missing: an adapter of {source} does not say for certain what it belongs to.")
        base = _open_base(llama)
        converted, notes = _read(source, adapter, base.config, layers, gate or "tanh", qkv or QKV[0])
        bound = describe_base(base.name, base.identity.fingerprint, base.identity)
        save_adapter(out, converted.state_dict(), AdapterDescription(converted.config, bound, None, {}))
    config = converted.config
    log(f"{adapter}: {config.layers} layers of {config.prompt_length} prompts, from layer {converted.first_layer}")
    for note in notes:
        log(f"  {note}")
    for path in written:
        log(f"wrote {path}")
    return written


def _check_options(source: str, target: str, layers: int | None, gate: str | None, qkv: str | None) -> None:
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


def _write(target: str, out: Path, adapter: Adapter, base: _Base, gate: str, qkv: str) -> list[str]:
    """Write the adapter; return what its reader has to know."""
    if target == "peft":
        write_peft(out, adapter, base.config, base.name)
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
