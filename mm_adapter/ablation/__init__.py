"""Ablations: a grid of training runs, what they share, and the paper's tables of them with their spread over seeds."""
