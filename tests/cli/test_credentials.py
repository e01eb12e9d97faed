"""Where the key may come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from packtrain import Gemini, Local, Service
from packtrain.cli.credentials import find_key, need_key, refuse_keys_in
from packtrain.cli.exits import CredentialError, UsageError
from packtrain.cli.service import choose, paced

if TYPE_CHECKING:
    from pathlib import Path


def private_file(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("environ", "key"),
    [
        ({"GEMINI_API_KEY": "one"}, "one"),
        ({"GOOGLE_API_KEY": "two"}, "two"),
        ({"GEMINI_API_KEY": "one", "GOOGLE_API_KEY": "two"}, "one"),
        ({"GEMINI_API_KEY": "", "GOOGLE_API_KEY": "two"}, "two"),
        ({"GEMINI_API_KEY": " one\n"}, "one"),
    ],
)
def test_the_key_is_taken_from_the_environment(environ: dict[str, str], key: str) -> None:
    """GEMINI_API_KEY comes before GOOGLE_API_KEY, an empty variable counts as none."""
    found = find_key(None, environ)
    assert found is not None
    assert found.reveal() == key


def test_a_key_file_comes_before_the_environment(tmp_path: Path) -> None:
    """What is asked for on the command line counts."""
    found = find_key(private_file(tmp_path / "key", "from-file\n"), {"GEMINI_API_KEY": "one"})
    assert found is not None
    assert found.reveal() == "from-file"


def test_a_byte_order_mark_in_a_key_file_is_skipped(tmp_path: Path) -> None:
    """B13: some editors write one."""
    found = find_key(private_file(tmp_path / "key", "\ufefffrom-file\r\n"), {})
    assert found is not None
    assert found.reveal() == "from-file"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_key_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    """The message names the command that closes it, and not the key."""
    with pytest.raises(CredentialError, match="chmod 600") as caught:
        find_key(private_file(tmp_path / "key", "SENTINEL", mode), {})
    assert "SENTINEL" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "\n", "two words", "one\nSENTINEL", "schl\u00fcssel"])
def test_what_cannot_stand_in_a_header_is_no_key(tmp_path: Path, text: str) -> None:
    """A key is one line of visible ASCII; anything else is refused without quoting it."""
    with pytest.raises(CredentialError, match="holds no key") as caught:
        find_key(private_file(tmp_path / "key", text), {})
    assert "SENTINEL" not in str(caught.value)


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    """The message says which file."""
    with pytest.raises(CredentialError, match="nowhere: No such file"):
        find_key(tmp_path / "nowhere", {})


def test_without_a_key_the_message_shows_both_ways_out() -> None:
    """It names the variable and the service that needs no key."""
    with pytest.raises(CredentialError, match=r"GEMINI_API_KEY.*--service local"):
        need_key(find_key(None, {}))


@pytest.mark.parametrize("argv", [["run", "--api-key", "SENTINEL"], ["run", "--api-key=SENTINEL"]])
def test_a_key_on_the_command_line_is_refused(argv: list[str]) -> None:
    """Other users can read it there; the message does not repeat it."""
    with pytest.raises(UsageError, match="--api-key-file") as caught:
        refuse_keys_in(argv)
    assert "SENTINEL" not in str(caught.value)


def test_a_key_file_on_the_command_line_is_fine() -> None:
    """Its name tells nothing."""
    refuse_keys_in(["run", "--api-key-file", "key"])


@pytest.mark.parametrize(
    ("name", "wire", "words"),
    [
        ("openai", None, "not available yet"),
        ("https://host", "openai", "not available yet"),
        ("https://host", None, "--wire gemini"),
        ("gemnii", None, "there is no service 'gemnii'"),
        ("https://SENTINEL@host", "gemini", "no user name"),
        ("https://host/?key=SENTINEL", "gemini", "no user name"),
        ("https://host/v1", "gemini", "scheme and host alone"),
        ("http://example.org", "gemini", "use https"),
    ],
)
def test_a_service_that_does_not_exist_is_wrong_usage(name: str, wire: str | None, words: str) -> None:
    """The message says what there is, and quotes no address that may hold a key."""
    with pytest.raises(UsageError, match=words) as caught:
        choose(name, wire=wire, key=None)
    assert "SENTINEL" not in str(caught.value)


def test_a_service_elsewhere_needs_no_key_of_ours() -> None:
    """It may be one's own."""
    assert choose("http://127.0.0.1:8787", wire="gemini", key=None) == Gemini(origin="http://127.0.0.1:8787")


def test_waits_can_be_set_for_a_service_elsewhere_only() -> None:
    """The service inside this program is looked at all the time."""
    service = paced(Gemini("key"), poll=2.0, settle=9.0)
    assert isinstance(service, Service)
    assert service.poll == (2.0, 2.0)
    assert service.settle == 9.0
    with pytest.raises(UsageError, match="--service local"):
        paced(Local(), poll=2.0, settle=None)
