"""Frozen image towers, their global features, and the store that keeps them. Knows nothing of language."""

from mm_adapter.vision.tower import DEFAULT_TOWER, ImageTower, VisionConfig

__all__ = ["DEFAULT_TOWER", "ImageTower", "VisionConfig"]
