"""A short name for a set of weights, the same in every file format and dtype."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

_SAMPLE = 256  # values of each tensor: enough to tell models apart without reading gigabytes


def sample_digest(tensor: Tensor) -> bytes:
    """Return bytes that stand for one tensor: its shape and evenly spaced values, in bfloat16."""
    flat = tensor.detach().reshape(-1)
    sample = flat[:: max(1, flat.numel() // _SAMPLE)][:_SAMPLE].float().to(torch.bfloat16).view(torch.int16)
    return str(tuple(tensor.shape)).encode() + sample.cpu().numpy().tobytes()


def join_digests(digests: Mapping[str, bytes]) -> str:
    """Return the hex SHA-256 over tensors' names and digests, whatever their order."""
    joined = hashlib.sha256()
    for name in sorted(digests):
        joined.update(name.encode() + digests[name])
    return joined.hexdigest()


def tensors_fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Return the fingerprint of tensors by name."""
    return join_digests({name: sample_digest(tensor) for name, tensor in tensors.items()})
