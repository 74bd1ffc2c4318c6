"""Frozen image towers, their global features, and the store that keeps them. Knows nothing of language."""

from mm_adapter.vision.features import FeatureStore, extract_features
from mm_adapter.vision.tower import DEFAULT_TOWER, ImageTower, VisionConfig

__all__ = ["DEFAULT_TOWER", "FeatureStore", "ImageTower", "VisionConfig", "extract_features"]
