"""Backends: the parts that answer requests."""
