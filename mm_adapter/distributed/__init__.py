"""Processes that share one job, and what they hold together."""
