"""Multimodal question answering with a frozen LLaMA (LLaMA-Adapter, arXiv 2303.16199)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mm_adapter.model import MultimodalLlama

__all__ = ["MultimodalLlama"]
__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    # Loading torch takes seconds; `mm-adapter score --help` should not pay for it.
    if name == "MultimodalLlama":
        from mm_adapter.model import MultimodalLlama

        return MultimodalLlama
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
