"""What moves: every task group of the client, and nothing that decides."""
