"""A trained adapter for others: a folder with a card that says what it is, and its way to the Hugging Face hub."""

from mm_adapter.publishing.hub_folder import Publication, prepare, push_to_hub

__all__ = ["Publication", "prepare", "push_to_hub"]
