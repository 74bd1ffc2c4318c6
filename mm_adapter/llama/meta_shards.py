"""Model-parallel shards of Meta's layout put together again, tensor by tensor, rows at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mm_adapter.errors import UserError
from mm_adapter.llama.pages import MappedFile
from mm_adapter.llama.source import StoredTensor, dtype_name, interleaved_to_half_split, store_mapped
from mm_adapter.llama.torch_files import read_tensors

_CUT_ALONG_ROWS = ("attention.wq", "attention.wk", "attention.wv", "feed_forward.w1", "feed_forward.w3", "output")
_CUT_ALONG_COLUMNS = ("attention.wo", "feed_forward.w2")


@dataclass(frozen=True)
class Shard:
    """One ``consolidated.NN.pth``.

    Attributes:
        path: the file.
        tensors: by Meta's names, memory-mapped.
        file: where it is mapped.
    """

    path: Path
    tensors: dict[str, Tensor]
    file: MappedFile


def open_shards(folder: Path) -> list[Shard]:
    """Open all shards of a folder, in order.

    Raises:
        UserError: a shard is missing or damaged, or the shards are not of one model.
    """
    found = {path.name: path for path in folder.glob("consolidated.*.pth")}
    if not found:
        raise UserError(f"{folder}: no consolidated.00.pth; the weights are missing.")
    names = [f"consolidated.{index:02d}.pth" for index in range(len(found))]
    missing = [name for name in names if name not in found]
    if missing:
        raise UserError(f"{folder}: {missing[0]} is missing, though there is {max(found)}. Complete the folder.")
    shards = []
    for name in names:
        tensors = read_tensors(found[name])
        shards.append(Shard(found[name], tensors, MappedFile(found[name])))
    for shard in shards[1:]:
        _check_same_model(shards[0], shard)
    return shards


def _check_same_model(first: Shard, other: Shard) -> None:
    def different(reason: str) -> UserError:
        return UserError(f"{other.path}: of another model than {first.path.name}: {reason}.")

    strange = sorted(first.tensors.keys() ^ other.tensors.keys())
    if strange:
        raise different(f"{strange[0]} is in one of them alone")
    for name, tensor in first.tensors.items():
        twin = other.tensors[name]
        if twin.shape != tensor.shape or twin.dtype != tensor.dtype:
            raise different(
                f"{name} is {dtype_name(tensor.dtype)} {tuple(tensor.shape)} there, "
                f"{dtype_name(twin.dtype)} {tuple(twin.shape)} here"
            )
        # Norms are in every shard whole: what tells two models of one shape apart.
        if tensor.ndim == 1 and not torch.equal(twin, tensor):
            raise different(f"{name} differs, which all shards of a model have in common")


def cut_axis(name: str, parts: Sequence[Tensor], hidden_size: int) -> int | None:
    """Return the axis along which a tensor was cut over the shards, None where each holds it whole.

    Embeddings were cut by width up to Llama 2 and by vocabulary from Llama 3 on: the width of a part tells.
    """
    stem = name.removesuffix(".weight").removeprefix("layers.").lstrip("0123456789.")
    if len(parts) == 1 or parts[0].ndim != 2:
        return None
    if stem == "tok_embeddings":
        return 0 if parts[0].shape[1] == hidden_size else 1
    if stem in _CUT_ALONG_ROWS:
        return 0
    return 1 if stem in _CUT_ALONG_COLUMNS else None


def merged_shape(name: str, tensors: Sequence[Mapping[str, Tensor]], hidden_size: int) -> tuple[int, ...]:
    """Return the shape that a tensor has when its parts are put together."""
    parts = [part[name] for part in tensors]
    shape = list(parts[0].shape)
    axis = cut_axis(name, parts, hidden_size)
    if axis is not None:
        shape[axis] *= len(parts)
    return tuple(shape)


def merge(name: str, shards: Sequence[Shard], hidden_size: int, heads: int | None) -> StoredTensor:
    """Describe a tensor whose parts lie in ``shards``.

    Args:
        name: Meta's.
        heads: of a query or key projection, all shards together; None for anything else.
    """
    parts = [shard.tensors[name] for shard in shards]
    axis = cut_axis(name, parts, hidden_size)
    if axis is None:
        return store_mapped(parts[0], shards[0].file, heads)

    def read(first: int, last: int) -> Tensor:
        height = len(parts[0])
        if axis == 1:
            spans = [part[first:last] for part in parts]
        else:
            spans = [part[max(0, first - i * height) : max(0, last - i * height)] for i, part in enumerate(parts)]
        rows = torch.cat(spans, dim=axis)
        for shard, span in zip(shards, spans, strict=True):
            shard.file.release(span)
        return rows if heads is None else interleaved_to_half_split(rows, (last - first) // granule)

    shape = merged_shape(name, [shard.tensors for shard in shards], hidden_size)
    granule = 1 if heads is None else max(1, shape[0] // heads)
    return StoredTensor(shape, dtype_name(parts[0].dtype), read, granule)
