"""Questions, where they come from, how they become prompts and batches. Knows nothing of models."""
