"""Webhooks: events about finished jobs, delivered durably, at least once, and only to allowed origins."""
