"""Every limit of this wire, in one place. Sizes in bytes, times in seconds."""

from __future__ import annotations

from msgspec import Struct

from ..._options import GB, MB, MIB


class Limits(Struct, frozen=True, kw_only=True):
    """OpenAI's own figures."""

    #: Lines of one batch, and texts of all its lines where these ask for embeddings.
    requests: int = 50_000
    #: The input file of a batch.
    batch_bytes: int = 200 * MB
    #: A file sent in one piece, one put together from parts, and one part.
    file_bytes: int = 512 * MB
    upload_bytes: int = 8 * GB
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


LIMITS = Limits()
