"""Fault injection: a plan as data, and the parts of the service that carry it out."""
