"""Optimiser, schedule, loop and run folder. Knows nothing of which dataset it trains on."""
