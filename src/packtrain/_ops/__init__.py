"""Commands on a state directory that need no client."""
