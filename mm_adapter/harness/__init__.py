"""Benchmarks of other projects, run on models of this one."""
