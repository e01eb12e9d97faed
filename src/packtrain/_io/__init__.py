"""What touches the world: the only modules that open a socket or a file."""
