"""A model under probes: which apply, and what its gates and its attention to the prompts look like."""
