"""Telling others of the ends of jobs: durably, at least once, and only where the operator allows it."""
