"""Adapters of other projects: readers and writers, one file a format."""
