"""Short names for weights and for what a model computes with them, the same in every file format and dtype."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True)
class ModelIdentity:
    """What makes a base model the one that an adapter was trained on.

    Attributes:
        weights: fingerprint of its tensors.
        computes: what its configuration and tokenizer add, by name, ready for JSON: numbers, names, lists of numbers.
    """

    weights: str
    computes: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """The hex SHA-256 over both; numbers count as far as formats agree on them."""
        coarse = {name: _coarse(value) for name, value in self.computes.items()}
        return hashlib.sha256(f"{self.weights} {json.dumps(coarse, sort_keys=True)}".encode()).hexdigest()

    def differences(self, computes: Mapping[str, Any]) -> list[str]:
        """Return the names of what another model computes otherwise, as far as both say it."""
        return [name for name, value in self.computes.items() if name in computes and not _alike(value, computes[name])]


def _coarse(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list) and value and isinstance(value[0], float):
        # One number for all: of many that are rounded alone, one may lie where two formats round it apart.
        return f"{len(value)} {sum(map(math.log, value)) / len(value):.3f}"
    return value


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (one, other))
    return math.isclose(one, other, rel_tol=1e-5) if numbers else one == other
