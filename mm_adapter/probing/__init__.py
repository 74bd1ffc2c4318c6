"""A model under probes: how it is asked, and what its gates and its attention to the prompts look like."""

from mm_adapter.probing.attention import PromptAttention, prompt_attention
from mm_adapter.probing.gates import gate_strengths, gates_section

__all__ = ["PromptAttention", "gate_strengths", "gates_section", "prompt_attention"]
