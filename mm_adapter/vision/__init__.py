"""Frozen image towers, their global features, and the store that keeps them. Knows nothing of language."""
