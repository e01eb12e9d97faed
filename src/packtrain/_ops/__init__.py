"""Commands on a state directory, beside those of a client."""
