"""Tokenizers, and the chat templates that go with them."""
