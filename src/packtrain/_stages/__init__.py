"""The stages of a run, each by itself on plain files."""
