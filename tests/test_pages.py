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


def _anchors(page: Path) -> set[str]:
    """The fragments that a rendered page offers, as GitHub makes them from headings."""
    headings = re.findall(r"^#+ (.*)$", _prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


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
