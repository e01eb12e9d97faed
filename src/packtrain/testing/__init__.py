"""Conformance suites for those who write a part of their own. They need pytest and anyio's plugin for it."""
