"""Adaption prompts, visual projection and gated attention. Knows nothing of where questions come from."""

from mm_adapter.adapter.adapter import Adapter, AdapterConfig

__all__ = ["Adapter", "AdapterConfig"]
