"""What decides. Pure and synchronous: no clock, no randomness, no files, no sockets."""
