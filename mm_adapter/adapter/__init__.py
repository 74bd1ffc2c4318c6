"""Adaption prompts, visual projection and gated attention. Knows nothing of where questions come from."""

from mm_adapter.adapter.adapter import Adapter
from mm_adapter.adapter.config import AdapterConfig

__all__ = ["Adapter", "AdapterConfig"]
