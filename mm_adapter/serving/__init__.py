"""A server for models of one base: requests that arrive together are computed together, over HTTP or in Python."""
