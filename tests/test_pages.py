"""The pages for people: their examples run as they are printed, and their tables are those of the code."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import packtrain
from packtrain.cli.quantities import parse_size

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "docs" / "python.md"]
EXAMPLES = [
    pytest.param(example, id=f"{page.name}-{number}")
    for page in PAGES
    for number, example in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL))
]


def test_there_are_examples() -> None:
    """Or the next one would prove nothing."""
    assert len(EXAMPLES) == 3


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_runs_as_it_is_printed(example: str, tmp_path: Path) -> None:
    """In a directory with the files that the page speaks of."""
    (tmp_path / "demo").mkdir()
    texts = [{"parts": [{"text": f"text {number}"}]} for number in range(20)]
    embeddings = [{"key": f"k{n}", "request": {"content": text}} for n, text in enumerate(texts)]
    prompts = [{"key": f"k{n}", "request": {"contents": [text]}} for n, text in enumerate(texts)]
    for name, rows in (("demo/questions.jsonl", embeddings), ("requests.jsonl", prompts)):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    environ = {**os.environ, "PYTHONPATH": str(Path(packtrain.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"\b(20|100) answer", done.stdout)


def test_every_option_stands_in_the_table_with_its_default() -> None:
    """As `Options` has it, in its order."""
    table = re.findall(r"^\| `(\w+)` \| (\w*) ?\| (.*?) \| .* \|$", PAGES[1].read_text(), re.MULTILINE)
    sizes = {name: parse_size(text) for name, unit, text in table if unit == "bytes" and text != "None"}
    told = [(name, sizes[name] if name in sizes else ast.literal_eval(text)) for name, _, text in table]
    assert told == [(field.name, field.default) for field in msgspec.structs.fields(packtrain.Options)]
