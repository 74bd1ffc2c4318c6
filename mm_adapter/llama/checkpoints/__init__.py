"""Readers of base models: GGUF, Hugging Face, Meta."""
