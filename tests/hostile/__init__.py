"""A service that lies, and what the client makes of it."""
