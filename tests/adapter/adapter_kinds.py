"""The kinds of adapters that are held against the plain formulation, and what each is shown."""

from typing import Any

from torch import Tensor

TILES = {"image_prompts": "tiles", "image_pieces": (8, 5, 7)}
QUERY = {"image_prompts": "query", "image_size": 10, "query_width": 12, "query_heads": 3, "query_inner": 20}
KINDS: dict[str, dict[str, Any]] = {
    "gated": {},
    "joined": {"attention": "random-init"},
    "tiles": TILES,
    "query": QUERY | {"query_blocks": 2},
}


def as_seen(features: Tensor, kind: str) -> Tensor:
    """Return features ``(B, 20)`` as an adapter of a kind takes them: as two tokens of ten for ``query``."""
    return features.unflatten(1, (2, 10)) if kind == "query" else features
