"""Every limit of this wire, in one place. Sizes in bytes, times in seconds."""

from __future__ import annotations

from msgspec import Struct

from ...._options import GB, MB, MIB


class OpenAILimits(Struct, frozen=True, kw_only=True):
    """OpenAI's own figures where nothing else is said."""

    #: Lines of one batch, and texts of all its lines where these ask for embeddings.
    requests: int = 50_000
    #: The input file of a batch, as the real service's refusal names it.
    batch_bytes: int = 200 * MIB
    #: A file sent in one piece; one put together from parts, which the other wire must be able to show (OpenAI's own
    #: figure is 8 GB); and one part.
    file_bytes: int = 512 * MB
    upload_bytes: int = 2 * GB
    part_bytes: int = 64 * MIB
    parts: int = 10_000
    metadata_pairs: int = 16
    metadata_key: int = 64
    metadata_value: int = 512
    #: Of an interactive call.
    body_bytes: int = 20 * MB
    #: A batch that is not done by then ends with what it has.
    window: float = 24 * 3600.0
    #: Of a file, unless its maker asks for something between the other two.
    file_life: float = 30 * 24 * 3600.0
    shortest_life: float = 3600.0
    longest_life: float = 30 * 24 * 3600.0
    #: Of an upload that nobody completes.
    upload_life: float = 3600.0
    #: Faults named in one failed validation.
    errors: int = 100


LIMITS = OpenAILimits()
