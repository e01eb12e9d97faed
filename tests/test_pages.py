"""The pages for people: links lead somewhere, examples run as printed, tables equal the code."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import msgspec
import pytest

import packtrain
from packtrain.cli import app
from packtrain.cli.commands import COMMANDS
from packtrain.cli.quantities import parse_size

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
#: Pages whose Python blocks are whole programs.
PROGRAMS = [ROOT / "README.md", DOCS / "python.md"]


def _blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def _prose(page: Path) -> str:
    """The page without its code blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def _sections(page: Path) -> dict[str, str]:
    """Text by heading of the second level."""
    parts = re.split(r"^## (.*)\n", page.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _anchors(page: Path) -> set[str]:
    """The fragments that a rendered page offers, as GitHub makes them from headings."""
    headings = re.findall(r"^#+ (.*)$", _prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


#: Options of every command, which have a section of their own.
EVERYWHERE = {"--json", "--quiet", "--debug", "--config"}
EXAMPLES = [
    pytest.param(example, id=f"{page.name}-{number}")
    for page in PROGRAMS
    for number, example in enumerate(_blocks(page, "python"))
]
LINKS = [
    pytest.param(page, target, id=f"{page.relative_to(ROOT)}: {target}")
    for page in PAGES
    for target in sorted(set(re.findall(r"\]\(([^)\s]+)\)", _prose(page))))
    if not target.startswith("https://")
]


def test_there_are_examples_and_links() -> None:
    """Guards the patterns: without a match the tests below would check nothing."""
    assert len(EXAMPLES) == 3
    assert len(LINKS) > 30


@pytest.mark.parametrize(("page", "target"), LINKS)
def test_a_link_leads_to_a_page_and_a_heading(page: Path, target: str) -> None:
    """Relative links name a file of the repository; a fragment names a heading of that file."""
    name, _, fragment = target.partition("#")
    file = (page.parent / name).resolve() if name else page
    assert file.exists()
    assert not fragment or fragment in _anchors(file)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_code_blocks_are_well_formed(page: Path) -> None:
    """Python compiles and imports names that exist; JSON and TOML parse."""
    for block in _blocks(page, "python"):
        tree = compile(block, page.name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        for node in imports:
            if node.module is not None and node.module.partition(".")[0] == "packtrain":
                exec(compile(ast.Module([node], []), page.name, "exec"), {})  # noqa: S102 - an import from our own page
    for block in _blocks(page, "json"):
        json.loads(block)
    for block in _blocks(page, "toml"):
        tomllib.loads(block)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_runs_as_it_is_printed(example: str, tmp_path: Path) -> None:
    """In a directory with the files that the page mentions."""
    _inputs(tmp_path)
    done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, env=_environ(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"\b(20|100) answer", done.stdout)


def test_the_commands_of_the_readme_run_as_they_are_printed(tmp_path: Path) -> None:
    """Each `$ packtrain` line, on the local service. Scripts have their own tests, since they install packages."""
    _inputs(tmp_path)
    commands = re.findall(r"^\$ (packtrain .*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(commands) >= 3
    program = f'packtrain() {{ "{sys.executable}" -m packtrain "$@"; }}'
    script = "\n".join(["set -eu", program, *commands])
    environ = _environ() | {"PACKTRAIN_SERVICE": "local"}
    done = subprocess.run(["/bin/sh", "-c", script], cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 20


def test_the_option_table_lists_every_field_with_its_default() -> None:
    """Names, order and defaults are those of `Options`."""
    table = re.findall(r"^\| `(\w+)` \| (\w*) ?\| (.*?) \| .* \|$", (DOCS / "python.md").read_text(), re.MULTILINE)
    sizes = {name: parse_size(text) for name, unit, text in table if unit == "bytes" and text != "None"}
    listed = [(name, sizes[name] if name in sizes else ast.literal_eval(text)) for name, _, text in table]
    assert listed == [(field.name, field.default) for field in msgspec.structs.fields(packtrain.Options)]


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_the_section_of_a_command_lists_its_options(command: str) -> None:
    """All of them, and its tables have no others."""
    section = _sections(DOCS / "cli.md")[command]
    arguments = app[command].assemble_argument_collection()
    options = {name for argument in arguments for name in argument.names if name.startswith("--")}
    assert {option for option in options - EVERYWHERE if not re.search(rf"{option}\b(?!-)", section)} == set()
    cells = re.findall(r"^\| (`--.*?) \| ", section, re.MULTILINE)
    assert {option for cell in cells for option in re.findall(r"--[a-z-]+", cell)} <= options


def test_the_error_table_lists_every_error_with_its_code() -> None:
    """Base classes on the left, subclasses in the third column, the code of either at the end of the row."""
    lines = [line for line in _sections(DOCS / "python.md")["Errors"].splitlines() if line.startswith("| ")]
    codes: dict[str, str] = {}
    for _, base, _, subclasses, code, _ in (line.split("|") for line in lines):
        codes |= dict.fromkeys(re.findall(r"`(\w+)`", base + subclasses), code.strip())
    raised = {kind.__name__: kind for kind in _subclasses(packtrain.PacktrainError)}
    assert set(codes) - {"Summary"} == set(raised)
    for name, kind in raised.items():
        error = kind.__new__(kind)
        vars(error).update(status=403, shards={0: ""})
        assert str(packtrain.exit_code(error)) in codes[name].split("; ")


def _subclasses(base: type[packtrain.PacktrainError]) -> set[type[packtrain.PacktrainError]]:
    direct = {kind for kind in base.__subclasses__() if kind.__module__.startswith("packtrain.")}
    return direct.union(*map(_subclasses, direct))


def test_the_layers_are_those_that_are_enforced() -> None:
    """The list of docs/architecture.md against the contract of import-linter."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    [listed] = re.findall(r"^```\n(.*?)^```", (DOCS / "architecture.md").read_text(), re.MULTILINE | re.DOTALL)
    assert listed.splitlines() == [layer.replace("packtrain.", "") for layer in layers]


@pytest.mark.parametrize("walk", ["The walk of one request line", "The walk of one lost create reply"])
def test_a_walk_names_modules_and_functions_that_exist(walk: str) -> None:
    """Each module once, and a lost reply at most eight."""
    steps = re.findall(r"^\| \d+ \| `(.*?)` \| (.*?) \|", _sections(DOCS / "architecture.md")[walk], re.MULTILINE)
    modules = [module for module, _ in steps]
    assert len(set(modules)) == len(modules) >= 8
    assert "reply" not in walk or len(modules) == 8
    for module, names in steps:
        source = (ROOT / "src" / "packtrain" / module).read_text()
        for name in re.findall(r"[\w]+(?=[`.])", names):
            assert re.search(rf"^ *(async def|def|class) {name}\b", source, re.MULTILINE), f"{module}: {name}"


def test_modules_that_the_architecture_names_exist() -> None:
    """Every path in code type, relative to the repository or to the package."""
    names = set(re.findall(r"`([\w./]+(?:\.py|/))`", (DOCS / "architecture.md").read_text()))
    names = {name for name in names if "NAME" not in name}
    assert len(names) > 20
    assert [name for name in names if not any((at / name).exists() for at in (ROOT, ROOT / "src" / "packtrain"))] == []


def _inputs(directory: Path) -> None:
    """Twenty requests of either task, under the names that the pages use."""
    (directory / "demo").mkdir()
    texts = [{"parts": [{"text": f"text {number}"}]} for number in range(20)]
    embeddings = [{"key": f"k{n}", "request": {"content": text}} for n, text in enumerate(texts)]
    prompts = [{"key": f"k{n}", "request": {"contents": [text]}} for n, text in enumerate(texts)]
    for name, rows in (("demo/questions.jsonl", embeddings), ("requests.jsonl", prompts)):
        (directory / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def _environ() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(packtrain.__file__).parents[1])}
