"""Bugs sown on purpose, to see that the tests see them."""
