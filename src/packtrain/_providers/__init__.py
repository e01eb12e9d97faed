"""Providers: one protocol, and the services that implement it."""
