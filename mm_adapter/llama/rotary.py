"""Rotary position embedding (RoFormer, arXiv 2104.09864) in the half-split layout of Hugging Face."""

import math

import torch
from torch import Tensor

from mm_adapter.llama.config import LlamaConfig, RopeDivisors, RopeScaling


def rotary_frequencies(config: LlamaConfig) -> Tensor:
    """Return the angle per position of each pair of channels, ``(head_dim / 2,)`` float32."""
    # On the CPU even while the weights are still on the meta device: the table is never read from a file.
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.int64, device="cpu").float() / config.head_dim
    frequencies = 1.0 / (config.rope_theta**exponents)
    if isinstance(config.rope_scaling, RopeDivisors):
        return frequencies / torch.tensor(config.rope_scaling.divisors, device="cpu")
    return frequencies if config.rope_scaling is None else _stretch(frequencies, config.rope_scaling)


def _stretch(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """Divide slow frequencies by the factor, keep fast ones, blend between (Llama 3.1 release, ``apply_scaling``)."""
    turns = float(scaling.original_context_length) * frequencies / (2 * math.pi)
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    smooth = ((turns - low) / (high - low)).clamp(0, 1)
    return (1 - smooth) * frequencies / scaling.factor + smooth * frequencies


def rotary_tables(positions: Tensor, frequencies: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return cosine and signed sine for ``rotate``.

    Args:
        positions: ``(T,)`` or ``(B, T)`` int64.
        frequencies: ``(head_dim / 2,)`` float32.
        dtype: of the result.

    Returns:
        Two tensors ``(1 or B, 1, T, head_dim)``; the first half of the sines carries the minus of the rotation.
    """
    angles = torch.atleast_2d(positions)[:, None, :, None].float() * frequencies
    cosine, sine = angles.cos().to(dtype), angles.sin().to(dtype)
    return torch.cat((cosine, cosine), dim=-1), torch.cat((-sine, sine), dim=-1)


def rotate(heads: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate ``heads`` ``(B, H, T, head_dim)`` by the angles in ``tables``."""
    cosine, sine = tables
    half = heads.shape[-1] // 2
    return heads * cosine + heads.roll(half, dims=-1) * sine
