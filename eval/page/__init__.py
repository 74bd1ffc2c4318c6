"""One page of HTML that says everything of some systems: tables, plots, and every question with its answers."""
