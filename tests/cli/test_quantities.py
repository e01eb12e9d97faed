"""Sizes and durations, read and written."""

from __future__ import annotations

import pytest

from packtrain._validation import counted
from packtrain.cli.quantities import duration_text, parse_duration, parse_size, size_text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("1000", 1000),
        ("7B", 7),
        ("2GB", 2_000_000_000),
        ("2gb", 2_000_000_000),
        ("2 GB", 2_000_000_000),
        ("512MiB", 536_870_912),
        ("1.5GB", 1_500_000_000),
        ("0.5KiB", 512),
        ("1TB", 10**12),
        ("1TiB", 2**40),
        (" 3kB ", 3000),
    ],
)
def test_a_size_is_read_in_decimal_and_binary_units(text: str, size: int) -> None:
    """Decimal units are powers of 1000, binary ones of 1024; the case of the letters does not matter."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "2G", "1,5GB", "-1", "0", "0.1B", "1e9", "2 GB x", "\u0661GB", "1" * 30])
def test_what_is_no_size_is_refused(text: str) -> None:
    """A size without a number, with an ambiguous unit, or of nothing is an error that quotes it."""
    with pytest.raises(ValueError, match=r"is not a size|less than one byte") as caught:
        parse_size(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        ("30s", 30),
        ("5m", 300),
        ("2h", 7200),
        ("1d", 86400),
        ("1h30m", 5400),
        ("250ms", 0.25),
        ("1.5s", 1.5),
    ],
)
def test_a_duration_is_read_in_parts(text: str, seconds: float) -> None:
    """A number alone is seconds; parts with units add up."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "5 m", "5min", "-5s", "0", "0s", "5m3", "m5"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Nothing is guessed: an unknown unit or a duration of nothing is an error that quotes it."""
    with pytest.raises(ValueError, match="is not a duration") as caught:
        parse_duration(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KB"),
        (99_940, "99.9 KB"),
        (123_456, "123 KB"),
        (999_600, "1.0 MB"),
        (2 * 10**9, "2.0 GB"),
        (5 * 10**15, "5000 TB"),
    ],
)
def test_a_size_is_written_with_few_digits(size: int, text: str) -> None:
    """Two or three digits, in the unit that needs no more."""
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.14, "0.1 s"),
        (9.96, "10 s"),
        (45.4, "45 s"),
        (90, "2 min"),
        (3540, "59 min"),
        (7500, "2 h 05 min"),
        (273_600, "3 d 04 h"),
    ],
)
def test_a_duration_is_written_in_the_units_that_matter(seconds: float, text: str) -> None:
    """Seconds matter below 90 of them, minutes below two days."""
    assert duration_text(seconds) == text


def test_one_thing_is_no_things() -> None:
    """And large numbers can be read."""
    assert [counted(n, "shard") for n in (0, 1, 2, 2000)] == ["0 shards", "1 shard", "2 shards", "2,000 shards"]
