"""Commands on a state directory that is not being driven."""
