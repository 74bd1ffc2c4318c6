"""Answers, explanations and chats: what a model writes and chooses."""
