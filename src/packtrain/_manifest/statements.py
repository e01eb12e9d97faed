"""The SQL of the manifest, read once from ``sql/``: named statements, and the migrations in their order."""

from __future__ import annotations

import re
from importlib.resources import files

_NAME = re.compile(r"^-- (\w+) --$", re.MULTILINE)
_ROOT = files(__package__).joinpath("sql")


def _named(text: str) -> dict[str, str]:
    """``-- name --`` begins a statement, and a comment may describe it."""
    _, *parts = _NAME.split(text)
    return {name: body.strip().removesuffix(";") for name, body in zip(parts[::2], parts[1::2], strict=True)}


STATEMENTS = _named(_ROOT.joinpath("queries.sql").read_text("utf-8"))


def migrations() -> list[str]:
    """Script n brings a database from schema n - 1 to n."""
    scripts = sorted(_ROOT.joinpath("migrations").iterdir(), key=lambda script: script.name)
    return [script.read_text("utf-8") for script in scripts]
