"""The original repository's V2 multimodal adapters (BIAS-7B, LORA-BIAS-7B, CAPTION-7B), in and out.

A file holds ``{"model": tensors, "config": {"w_bias", "w_lora", "lora_rank"}}``; checkpoints of its training hold the
frozen model and the image tower as well, which are not read. Rotary pairs are adjacent there, half-split here: biases
and low-rank updates of queries and keys are reordered as their projections are.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mm_adapter.adapter import Adapter, AdapterConfig
from mm_adapter.adapter.formats.foreign import check_tensors, is_plain, refuse_foreign_heads
from mm_adapter.adapter.formats.official import QUERY, refuse_other_models
from mm_adapter.core.errors import UserError
from mm_adapter.core.files import write_atomically
from mm_adapter.llama.checkpoints.meta import LAYER_NAMES
from mm_adapter.llama.checkpoints.source import (
    half_split_to_interleaved,
    interleaved_to_half_split,
    read_checkpoint,
)
from mm_adapter.llama.config import LlamaConfig

RELEASED_WIDTH, RELEASED_HEADS = 768, 16  # of the visual blocks in every checkpoint that was published
EPSILON = 1e-5  # of the blocks' norms in timm 0.3.2, which the original asks for; timm 1.0 has 1e-6 there
_NAME = "the original V2 layout"
_VISUAL_QUERY = "visual_query.weight"
_OUTER = {
    "input": "clip_proj",
    "input_norm": "clip_proj_norm",
    "output": "visual_proj",
    "output_norm": "visual_proj_norm",
}
_BLOCK = {
    "attention_norm": "norm1",
    "qkv": "attn.qkv",
    "output": "attn.proj",
    "mlp_norm": "norm2",
    "up": "mlp.fc1",
    "down": "mlp.fc2",
}
_THEIRS = {ours: theirs for theirs, ours in LAYER_NAMES.items()}
# A checkpoint of the original's training holds the frozen model and the tower as well.
_FROZEN = re.compile(
    r"clip\..+|llama\.((tok_embeddings|output)\.weight|rope\.freqs"
    r"|layers\.\d+\.(attention\.w[qkvo]|feed_forward\.w[123])\.weight)"
)
_NORM = re.compile(r"llama\.(norm|layers\.\d+\.(attention|ffn)_norm)\.weight")
_BIAS = re.compile(r"llama\.layers\.\d+\..+\.bias")
_BLOCK_NAME = re.compile(r"visual_blocks\.(\d{1,4})\.")
_LORA = re.compile(r"llama\.layers\.\d+\..+\.lora_\w+_l1\.weight")


@dataclass(frozen=True)
class _Entry:
    """Where a tensor of the original's file stands here.

    Attributes:
        theirs: its name there.
        shape: its shape there.
        ours: name in the adapter's state; None for a gate or scale below the adapted layers, which nothing reads.
        row: of ``ours`` that it is; None for all of it.
        heads: of rows that are reordered within each head; None where the order is the same.
    """

    theirs: str
    shape: tuple[int, ...]
    ours: str | None
    row: int | None = None
    heads: int | None = None


def read_official_v2(
    path: Path, llama: LlamaConfig, heads: int | None = None, epsilon: float | None = None
) -> tuple[Adapter, list[str]]:
    """Read an adapter of the original V2 multimodal code; return it and what was assumed or left out, for a person.

    Args:
        path: ``.pth`` with the layout above.
        llama: shape of the base model.
        heads: of the visual blocks' attention; the file does not say. None: 16, where the blocks are as wide as in the
            published adapters.
        epsilon: of the norms in the visual blocks; the file does not say. None: ``EPSILON``.

    Raises:
        UserError: the file is damaged, or a tensor is missing, surplus, misshapen or not finite; or the heads are not
            known.
    """
    tensors, beside = read_checkpoint(path)
    config = _config(path, tensors, heads, EPSILON if epsilon is None else epsilon)
    _check_flags(path, beside.get("config"), config)
    with torch.device("meta"):
        adapter = Adapter(config, llama)
    entries = list(_entries(adapter, llama))
    wanted = {entry.theirs: [entry.shape] for entry in entries}
    surplus = [name for name in tensors if name not in wanted and not _FROZEN.fullmatch(name)]
    check_tensors(path, tensors, wanted, surplus)
    state = adapter.to_empty(device="cpu").state_dict()
    for entry in entries:
        tensor = tensors[entry.theirs]
        if not tensor.isfinite().all():
            raise UserError(f"{path}: {entry.theirs} holds values that are not finite; it is unusable.")
        if entry.ours is None:
            continue
        if entry.heads is not None:
            tensor = interleaved_to_half_split(tensor, entry.heads)
        target = state[entry.ours] if entry.row is None else state[entry.ours][entry.row]
        target.copy_(tensor.reshape(target.shape))
    notes = [f"norms in the visual blocks with epsilon {config.query_epsilon:g}; --query-epsilon says otherwise"]
    if heads is None:
        notes.append(f"{RELEASED_HEADS} heads in the visual blocks, as in every published adapter")
    if adapter.first_layer:
        unused = f"layers 0 to {adapter.first_layer - 1}" if adapter.first_layer > 1 else "layer 0"
        notes.append(f"the gates of {unused}, which nothing reads, are not kept")
    if any(_FROZEN.fullmatch(name) for name in tensors):
        notes.append("the frozen model and the tower in the file are not read")
    return adapter, notes


def _config(path: Path, tensors: Mapping[str, Tensor], heads: int | None, epsilon: float) -> AdapterConfig:
    """Return the shape that a file's tensors tell.

    Raises:
        UserError: they are not those of a V2 adapter, or do not tell the heads.
    """

    def shape(name: str) -> tuple[int, ...]:
        if name not in tensors or tensors[name].ndim != 2 or not is_plain(tensors[name]) or not tensors[name].numel():
            raise UserError(
                f"{path}: {name} is missing or no matrix; this is not an adapter of the original V2 multimodal code."
            )
        return tuple(tensors[name].shape)

    length, width = shape(_VISUAL_QUERY)
    rows, _ = shape(QUERY)
    if rows % length:
        raise UserError(f"{path}: {QUERY} has {rows} rows, which are not {length} prompts a layer.")
    if heads is None and width != RELEASED_WIDTH:
        raise UserError(
            f"{path}: its visual blocks are {width} wide, not {RELEASED_WIDTH} as in the published adapters, and how "
            "many heads they have stands in no file; name them with --query-heads."
        )
    blocks = {int(found[1]) for name in tensors if (found := _BLOCK_NAME.match(name))}
    lora = [name for name in tensors if _LORA.fullmatch(name)]
    return AdapterConfig(
        layers=rows // length,
        prompt_length=length,
        image_size=shape("clip_proj.weight")[1],
        image_prompts="query",
        query_width=width,
        query_blocks=len(blocks),
        query_heads=RELEASED_HEADS if heads is None else heads,
        query_inner=shape("visual_blocks.0.mlp.fc1.weight")[0] if blocks else width,
        query_epsilon=epsilon,
        no_image="zero-picture",
        prompt_scale=bool(lora),
        biases=any(_BIAS.fullmatch(name) for name in tensors),
        norms=any(_NORM.fullmatch(name) for name in tensors),
        lora_rank=shape(lora[0])[0] if lora else 0,
    )


def _check_flags(path: Path, flags: Any, config: AdapterConfig) -> None:
    """Refuse a file whose ``config`` says otherwise than its tensors.

    Raises:
        UserError: it does; the original would leave tensors out or begin them anew without a word.
    """
    if flags is None:
        return  # a checkpoint of training
    if not isinstance(flags, dict):
        raise UserError(f"{path}: config is no table of settings; this is not an adapter of the original V2 code.")
    found = {"w_bias": config.biases, "w_lora": config.lora_rank > 0}
    for name, there in found.items():
        if bool(flags.get(name, False)) != there:
            kind = ("" if there else "no ") + ("biases" if name == "w_bias" else "low-rank updates")
            raise UserError(f"{path}: config says {name} {flags.get(name, False)!r}, its tensors have {kind}.")
    if config.lora_rank and flags.get("lora_rank", 16) != config.lora_rank:
        raise UserError(
            f"{path}: config says lora_rank {flags.get('lora_rank', 16)!r}, its tensors have {config.lora_rank}."
        )


def write_official_v2(path: Path, adapter: Adapter, llama: LlamaConfig) -> None:
    """Write an adapter that the original V2 multimodal code loads.

    Raises:
        UserError: the layout cannot hold the adapter, the original cannot run the model, or ``path`` cannot be written.
    """
    _refuse_others(adapter)
    refuse_other_models(llama, "the original V2 code")
    tensors = {name: tensor.clone() for name, tensor in official_v2_tensors(adapter, llama).items()}
    config = adapter.config
    # 16 is what the original takes for granted; without low-rank updates it is not used.
    flags = {"w_bias": config.biases, "w_lora": config.lora_rank > 0, "lora_rank": config.lora_rank or 16}
    write_atomically(path, lambda temporary: torch.save({"model": tensors, "config": flags}, temporary))


def official_v2_tensors(adapter: Adapter, llama: LlamaConfig) -> dict[str, Tensor]:
    """Return the tensors of an adapter by the names that the original gives them; on the meta device shapes alone.

    Below the adapted layers, where nothing is read, gates are 0 and scales 1.
    """
    state, device = adapter.state_dict(), adapter.prompts.device
    device = device if device.type == "meta" else torch.device("cpu")
    tensors = {}
    for entry in _entries(adapter, llama):
        if entry.ours is None:
            tensors[entry.theirs] = torch.full(entry.shape, float(entry.theirs.endswith("new_gate")), device=device)
            continue
        tensor = state[entry.ours] if entry.row is None else state[entry.ours][entry.row]
        tensor = tensor.detach().to(device)
        if entry.heads is not None:
            tensor = half_split_to_interleaved(tensor, entry.heads)
        tensors[entry.theirs] = tensor.reshape(entry.shape)
    return tensors


def _refuse_others(adapter: Adapter) -> None:
    """Refuse an adapter that the layout cannot hold.

    Raises:
        UserError: it is none of LLaMA-Adapter V2, or has parts in another combination.
    """
    config = adapter.config
    reasons = {
        "a picture is one vector for all prompts in it (image_prompts shared)": config.image_prompts != "query",
        "it scales the outputs of projections": config.output_scales,
        "its gates are not passed through tanh": config.gate_activation != "tanh",
        "it uses the prompts alone where there is no picture, not an all-zero one": config.no_image != "zero-picture",
        "scales and low-rank updates go together there": config.prompt_scale != (config.lora_rank > 0),
    }
    found = [reason for reason, there in reasons.items() if there]
    if found:
        raise UserError(f"{_NAME} cannot hold this adapter: {'; '.join(found)}.")
    refuse_foreign_heads(adapter, _NAME)


def _gate(layer: int) -> str:
    return f"llama.layers.{layer}.attention.gate"


def _entries(adapter: Adapter, llama: LlamaConfig) -> Iterator[_Entry]:
    """Yield every tensor of the layout for an adapter of this shape."""
    shapes = {name: tuple(tensor.shape) for name, tensor in adapter.state_dict().items()}

    def same(theirs: str, ours: str, heads: int | None = None) -> Iterator[_Entry]:
        if ours in shapes:
            yield _Entry(theirs, shapes[ours], ours, heads=heads)

    layers, length, width = shapes["prompts"]
    yield _Entry(QUERY, (layers * length, width), "prompts")
    yield from same(_VISUAL_QUERY, "visual_query.queries")
    renamed = {f"visual_query.{ours}": theirs for ours, theirs in _OUTER.items()}
    for block in range(adapter.config.query_blocks):
        place = f"visual_query.blocks.{block}"
        renamed |= {f"{place}.{ours}": f"visual_blocks.{block}.{theirs}" for ours, theirs in _BLOCK.items()}
    for ours, theirs in renamed.items():
        for kind in ("weight", "bias"):
            yield from same(f"{theirs}.{kind}", f"{ours}.{kind}")
    reordered = {"attention.query": llama.num_heads, "attention.key": llama.num_kv_heads}
    for layer in range(llama.num_layers):
        row = layer - adapter.first_layer if layer >= adapter.first_layer else None
        of_layer = f"llama.layers.{layer}"
        yield _Entry(_gate(layer), (1, llama.num_heads, 1, 1), None if row is None else "gates", row)
        if adapter.config.prompt_scale:
            yield _Entry(f"{of_layer}.attention.new_gate", (1, 1, 1, 1), None if row is None else "scales", row)
        for ours, theirs in _THEIRS.items():
            place, heads = f"tuning.layers.{layer}.{ours}", reordered.get(ours)
            room, _, projection = theirs.partition(".")
            yield from same(f"{of_layer}.{theirs}.weight", place)  # a norm
            yield from same(f"{of_layer}.{theirs}.bias", f"{place}.bias", heads)
            yield from same(f"{of_layer}.{room}.lora_{projection}_l1.weight", f"{place}.lora_a")
            yield from same(f"{of_layer}.{room}.lora_{projection}_l2.weight", f"{place}.lora_b", heads)
    yield from same("llama.norm.weight", "tuning.norm")
