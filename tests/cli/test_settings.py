"""Options from files: which are read, and which of their options are taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from packtrain.cli import perform
from packtrain.cli.settings import user_file

RUN = ["run", "nowhere.jsonl", "--model", "m", "--out", "o"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, and next to it the user's own configuration, which is returned."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    own = tmp_path / "config" / "packtrain" / "packtrain.toml"
    own.parent.mkdir(parents=True)
    return own


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (RUN, 'service = "https://elsewhere.example"'),
        (RUN, 'wire = "openai"'),
        (RUN, 'api-key-file = "key"'),
        (RUN, 'api_key_file = "key"'),
        (["serve", "--dir", "d"], 'backend = "evil:run"'),
        (["serve", "--dir", "d"], 'host = "0.0.0.0"'),
    ],
)
def test_the_current_directory_does_not_say_where_the_key_goes(
    capsys: pytest.CaptureFixture[str], command: list[str], option: str
) -> None:
    """B11: such an option is refused there with the ways out, and nothing is done."""
    Path("packtrain.toml").write_text(f"[{command[0]}]\n{option}\n")
    assert perform(command) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"packtrain: packtrain.toml: {option.split(' ')[0]} in [{command[0]}] is not taken")
    assert "--config packtrain.toml" in said
    assert [path.name for path in Path().iterdir()] == ["packtrain.toml"]


def test_an_option_that_is_given_elsewhere_is_ignored_there(capsys: pytest.CaptureFixture[str]) -> None:
    """B11: and that is said."""
    Path("packtrain.toml").write_text('[run]\nservice = "https://elsewhere.example"\n')
    assert perform([*RUN, "--service", "local"]) == 3
    assert "packtrain: packtrain.toml: service in [run] is ignored" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["own", "config", "here"])
def test_a_file_of_the_users_own_or_one_that_is_named_may_say_all(
    capsys: pytest.CaptureFixture[str], home: Path, where: str
) -> None:
    """B11: the address is used; and the directory's own file may choose what sends nothing elsewhere."""
    address = "local" if where == "here" else "https://elsewhere.example"
    file = home if where == "own" else Path("packtrain.toml")
    file.write_text(f'[run]\nservice = "{address}"\n')
    code = perform([*RUN, *(["--config", "packtrain.toml"] if where == "config" else [])])
    said = capsys.readouterr().err
    if where == "here":
        assert (code, "nowhere.jsonl" in said) == (3, True)
    else:
        assert (code, said.splitlines()[0]) == (2, f"packtrain: say what {address} speaks: --wire gemini")


def test_a_named_file_is_read_alone(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    """B11: neither that of the directory nor the user's own is looked at; the nearer of these comes first."""
    home.write_text('[run]\npoll = "own"\n')
    assert perform(RUN) == 2
    assert "'own'" in capsys.readouterr().err
    Path("packtrain.toml").write_text('[run]\npoll = "here"\n')
    assert perform(RUN) == 2
    assert "'here'" in capsys.readouterr().err
    Path("other.toml").write_text('[run]\npoll = "named"\n')
    assert perform([*RUN, "--config", "other.toml"]) == 2
    assert "'named'" in capsys.readouterr().err
    assert perform([*RUN, "--config", "gone.toml"]) == 2
    assert "--config gone.toml: there is no such file" in capsys.readouterr().err


@pytest.mark.parametrize("base", [None, "", "relative"])
def test_the_users_own_file_is_in_the_home_directory(base: str | None) -> None:
    """As the XDG specification has it, which ignores a relative path."""
    environ = {} if base is None else {"XDG_CONFIG_HOME": base}
    assert user_file(environ) == Path.home() / ".config" / "packtrain" / "packtrain.toml"
    assert user_file({"XDG_CONFIG_HOME": "/x"}) == Path("/x/packtrain/packtrain.toml")
