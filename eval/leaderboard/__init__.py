"""Published results on ScienceQA's official test split, and the user's own beside them."""
