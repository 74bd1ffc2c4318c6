"""The shape of a base model: by a built-in name, or read from a model's configuration without its weights."""

import math
from dataclasses import dataclass
from pathlib import Path

from mm_adapter.core.errors import UserError, suggestion
from mm_adapter.llama.checkpoints.load import DEFAULT_LLAMA, check_tensors, open_source
from mm_adapter.llama.config import LlamaConfig

# LLaMA (arXiv 2302.13971, table 2), Llama 2 (arXiv 2307.09288, table 1 and appendix A.2.1), Llama 3 (arXiv 2407.21783,
# table 3), SmolLM2 (arXiv 2502.02737; its published config.json).
SHAPES = {
    "llama-7b": LlamaConfig(32000, 4096, 32, 32, 32, 128, 11008),
    "llama-13b": LlamaConfig(32000, 5120, 40, 40, 40, 128, 13824),
    "llama-70b": LlamaConfig(32000, 8192, 80, 64, 8, 128, 28672, 4096, 1e-5),
    "llama-3-8b": LlamaConfig(128256, 4096, 32, 32, 8, 128, 14336, 8192, 1e-5, 500000.0),
    "smollm2-135m": LlamaConfig(49152, 576, 30, 9, 3, 64, 1536, 2048, 1e-5, 100000.0, tied_embeddings=True),
}
# Ids whose files need not be on this machine for their shape to be known.
_ALIASES = {"huggyllama/llama-7b": "llama-7b", "huggyllama/llama-13b": "llama-13b"}


@dataclass(frozen=True)
class BaseShape:
    """A base model as far as a plan needs to know it.

    Attributes:
        name: as the user gave it.
        config: its shape.
        block_bytes: bytes of its tensors as they lie in a GGUF file; None where there is no such file.
    """

    name: str
    config: LlamaConfig
    block_bytes: int | None = None


def open_shape(name: str) -> BaseShape:
    """Return the shape of a built-in name, a file, a folder or ``hub:owner/name``; no tensor is read.

    Raises:
        UserError: nothing usable has that name.
    """
    known = SHAPES.get(_ALIASES.get(name, name))
    if known is not None and not Path(name).exists():
        return BaseShape(name, known)
    try:
        source = open_source(name)
    except UserError as error:
        if name.count("/"):
            raise
        nearest = suggestion(name, list(SHAPES))
        raise UserError(f"{name}: neither a model on this machine nor one of {', '.join(SHAPES)}{nearest}.") from error
    blocks = None
    if source.layout == "GGUF":
        blocks = sum(_stored_bytes(tensor.shape, tensor.dtype) for tensor in check_tensors(name, source).values())
    return BaseShape(name, source.config, blocks)


def _stored_bytes(shape: tuple[int, ...], kind: str) -> int:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    values, size = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    return math.prod(shape) * size // values


def is_here(name: str) -> bool:
    """Return whether a name stands for files on this machine, rather than for a shape alone."""
    return name == DEFAULT_LLAMA or Path(name).expanduser().exists()


def layer_matrices(config: LlamaConfig) -> dict[str, tuple[int, int]]:
    """Return rows and columns of the seven matrices of a decoder layer, by their names in ``Llama``."""
    hidden, wide = config.hidden_size, config.intermediate_size
    queries, keys = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    return {
        "attention.query": (queries, hidden),
        "attention.key": (keys, hidden),
        "attention.value": (keys, hidden),
        "attention.output": (hidden, queries),
        "mlp.gate": (wide, hidden),
        "mlp.up": (wide, hidden),
        "mlp.down": (hidden, wide),
    }


def layer_vectors(config: LlamaConfig) -> int:
    """Return the numbers of a decoder layer that are in no matrix: two norms, and biases where it has them."""
    biased = {"attention": config.attention_bias, "mlp": config.mlp_bias}
    rows = [size for name, (size, _) in layer_matrices(config).items() if biased[name.partition(".")[0]]]
    return 2 * config.hidden_size + sum(rows)
