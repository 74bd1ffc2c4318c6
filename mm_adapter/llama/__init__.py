"""The frozen decoder: configuration, model, readers of weights, tokenizers. Knows nothing of images or datasets."""

from mm_adapter.llama.config import LlamaConfig, RopeDivisors, RopeScaling
from mm_adapter.llama.model import KVCache, Llama

__all__ = ["KVCache", "Llama", "LlamaConfig", "RopeDivisors", "RopeScaling"]
