"""How likely a model finds given texts: batches, likelihoods, encoded data sets."""
