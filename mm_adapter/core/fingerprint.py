"""A short name for a set of weights, the same in every file format and dtype."""

import hashlib
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

_SAMPLE = 256  # values of each tensor: enough to tell models apart without reading gigabytes


class Sampler:
    """Collects what stands for one tensor while its rows come by: its shape and evenly spaced values, in bfloat16.

    Attributes:
        positions: ``(S,)`` int64, indices of the values in the flattened tensor, ascending.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self._shape = tuple(shape)
        size = math.prod(self._shape)
        self._step = max(1, size // _SAMPLE)
        self.positions = torch.arange(0, size, self._step)[:_SAMPLE]
        self._values = torch.zeros(len(self.positions), dtype=torch.bfloat16)

    def add(self, first: int, part: Tensor) -> None:
        """Take the values that fall into ``part``, whose first element has the flat index ``first``."""
        flat = part.detach().reshape(-1)
        begin, end = (min(-(-edge // self._step), len(self.positions)) for edge in (first, first + flat.numel()))
        chosen = flat[(self.positions[begin:end] - first).to(flat.device)]
        self._values[begin:end] = chosen.float().to(torch.bfloat16).cpu()

    def digest(self) -> bytes:
        """Return the bytes that stand for the tensor."""
        return str(self._shape).encode() + self._values.view(torch.int16).numpy().tobytes()


def sample_digest(tensor: Tensor) -> bytes:
    """Return bytes that stand for one tensor."""
    sampler = Sampler(tensor.shape)
    sampler.add(0, tensor)
    return sampler.digest()


def join_digests(digests: Mapping[str, bytes]) -> str:
    """Return the hex SHA-256 over tensors' names and digests, whatever their order."""
    joined = hashlib.sha256()
    for name in sorted(digests):
        joined.update(name.encode() + digests[name])
    return joined.hexdigest()


def tensors_fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Return the fingerprint of tensors by name."""
    return join_digests({name: sample_digest(tensor) for name, tensor in tensors.items()})
