"""What is durably known about a run. The only truth between two steps."""
