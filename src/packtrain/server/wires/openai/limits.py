"""Limits of the OpenAI wire. Sizes in bytes, times in seconds."""

from __future__ import annotations

from msgspec import Struct

from ...._options import GB, MB, MIB


class OpenAILimits(Struct, frozen=True, kw_only=True):
    """OpenAI's figures unless noted."""

    #: Lines of one batch; for embeddings also the texts of all lines.
    requests: int = 50_000
    #: Input file of a batch, as in the real service's error message.
    batch_bytes: int = 200 * MIB
    #: A file in one call; a file from parts, limited by the Gemini wire (OpenAI's figure is 8 GB); one part.
    file_bytes: int = 512 * MB
    upload_bytes: int = 2 * GB
    part_bytes: int = 64 * MIB
    parts: int = 10_000
    metadata_pairs: int = 16
    metadata_key: int = 64
    metadata_value: int = 512
    #: Body of an interactive call.
    body_bytes: int = 20 * MB
    #: A batch that takes longer ends with its partial results.
    window: float = 24 * 3600.0
    #: Default life of a file, and the bounds of a requested one.
    file_life: float = 30 * 24 * 3600.0
    shortest_life: float = 3600.0
    longest_life: float = 30 * 24 * 3600.0
    #: Life of an unfinished upload.
    upload_life: float = 3600.0
    #: Errors reported by one failed validation.
    errors: int = 100


LIMITS = OpenAILimits()
