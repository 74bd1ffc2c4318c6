"""Frozen matrices that lie in memory otherwise than they are computed with."""
