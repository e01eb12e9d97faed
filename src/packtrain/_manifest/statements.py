"""The SQL of the manifest, read once from ``sql/``: named statements, and the migrations in their order."""

from __future__ import annotations

import re
from importlib.resources import files

from .digests import COLUMNS, digest_of

_DIGEST = re.compile(r"\{(?P<parameters>:?)(?P<table>\w+)(?P<qualified>\.?)(:(?P<given>[^}]*))?\}")
_NAME = re.compile(r"^-- (\w+) --$", re.MULTILINE)
_ROOT = files(__package__).joinpath("sql")


def _named(text: str) -> dict[str, str]:
    """``-- name --`` begins a statement, and a comment may describe it."""
    _, *parts = _NAME.split(text)
    return {name: body.strip().removesuffix(";") for name, body in zip(parts[::2], parts[1::2], strict=True)}


def _with_digests(text: str) -> str:
    """``{table: column=value}`` replaced by the digest of such a row; other braces stay."""
    return _DIGEST.sub(_digest, text)


def _digest(found: re.Match[str]) -> str:
    table, given = (
        found["table"],
        dict(pair.split("=") for pair in re.sub(r"\s", "", found["given"] or "").split(",") if pair),
    )
    if table not in COLUMNS:
        return found[0]
    return digest_of(table, ":" if found["parameters"] else f"{table}." if found["qualified"] else "", **given)


STATEMENTS = {
    name: _with_digests(body) for name, body in _named(_ROOT.joinpath("queries.sql").read_text("utf-8")).items()
}


def migrations() -> list[str]:
    """Script n brings a database from schema n - 1 to n."""
    scripts = sorted(_ROOT.joinpath("migrations").iterdir(), key=lambda script: script.name)
    return [script.read_text("utf-8") for script in scripts]
