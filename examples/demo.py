#!/usr/bin/env python3
"""Embed Python's own documentation through a batch service on this machine, then ask it three questions.

usage: scripts/demo

Builds demo/requests.jsonl from the texts that come with every Python (the language reference of pydoc and the
documentation strings of the standard library), sends all of it through

    packtrain run demo/requests.jsonl --service local --task embed \\
        --model gemini-embedding-001 --out demo/vectors.jsonl

and shows the five nearest entries to each question. A second start finds everything done. The vectors of the
local service are made of the words of a text, not of its meaning; the way there and back is the real one.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):
    sys.exit("scripts/demo: Python 3.11 or later is needed")

import argparse
import ast
import heapq
import importlib.machinery
import importlib.util
import inspect
import json
import math
import operator
import os
import signal
import subprocess
import sysconfig
import time
import types
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "demo"
REQUESTS = DEMO / "requests.jsonl"
VECTORS = DEMO / "vectors.jsonl"
NEAREST = DEMO / "nearest.txt"
QUESTIONS = (
    "How do I run a command in a subprocess and capture its output?",
    "How do I serialize an object to a JSON formatted string?",
    "Which function returns the greatest common divisor of integers?",
)
AGAIN = 75
#: Tests, and what is not part of Python.
LEFT_OUT = {"test", "tests", "idle_test", "site-packages"}
DOCUMENTED = (type, types.BuiltinFunctionType, types.MethodDescriptorType, types.GetSetDescriptorType)
DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS
    )
    parser.parse_args()
    try:
        status = demonstrate()
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("scripts/demo: interrupted; start it again to go on", file=sys.stderr)
        return AGAIN
    return status


def demonstrate() -> int:
    started = time.monotonic()
    status = set_up()
    if status:
        return status
    DEMO.mkdir(exist_ok=True)
    if not REQUESTS.exists():
        write_requests()
    status = packtrain_run(REQUESTS, VECTORS)
    if status:
        return status
    if not NEAREST.exists() or NEAREST.stat().st_mtime < VECTORS.stat().st_mtime:
        status = answer()
        if status:
            return status
    print(NEAREST.read_text(encoding="utf-8"), end="")
    print(f"{time.monotonic() - started:.1f} s in all")
    return 0


def set_up() -> int:
    # In a group of its own, so that a Ctrl-C is not answered by each program in it.
    with subprocess.Popen([ROOT / "scripts" / "setup", "none"], process_group=0) as setup:
        try:
            return setup.wait()
        except KeyboardInterrupt:
            os.killpg(setup.pid, signal.SIGTERM)
            raise


def packtrain_run(requests: Path, out: Path) -> int:
    arguments = [requests, "--service", "local", "--task", "embed", "--model", "gemini-embedding-001", "--out", out]
    shown = [str(part.relative_to(ROOT)) if isinstance(part, Path) else part for part in arguments]
    print("$ packtrain run", *shown, flush=True)
    interrupted = False
    with subprocess.Popen([ROOT / ".venv/bin/packtrain", "run", *shown], cwd=ROOT) as run:
        while run.poll() is None:
            try:
                run.wait()
            except KeyboardInterrupt:  # which has reached the run as well; it comes to a stand
                interrupted = True
    if interrupted:
        raise KeyboardInterrupt
    return run.returncode


# --- what is sent


def write_requests() -> None:
    print("reading the documentation of this Python ...", flush=True)
    warnings.simplefilter("ignore")  # about old modules that we only read
    write_lines(REQUESTS, passages())


def write_lines(path: Path, texts: Iterator[tuple[str, str]]) -> None:
    """One request a line; the file appears when it is whole."""
    unfinished = path.with_suffix(".unfinished")
    count = 0
    with unfinished.open("w", encoding="utf-8") as file:
        for key, text in texts:
            request = {"content": {"parts": [{"text": text}]}, "outputDimensionality": 256}
            file.write(json.dumps({"key": key, "request": request}, ensure_ascii=False) + "\n")
            count += 1
    unfinished.replace(path)
    print(f"{path.relative_to(ROOT)}: {count:,} lines, {path.stat().st_size:,} bytes")


def passages() -> Iterator[tuple[str, str]]:
    """Every paragraph with a key of its own: ``json.dumps``, then ``json.dumps 2`` and so on."""
    seen: dict[str, int] = {}
    for name, text in documents():
        for paragraph in text.split("\n\n"):
            words = " ".join(paragraph.split())
            if words:
                seen[name] = seen.get(name, 0) + 1
                yield name if seen[name] == 1 else f"{name} {seen[name]}", f"{name}: {words}"


def documents() -> Iterator[tuple[str, str]]:
    yield from topics()
    yield from sources()
    yield from compiled()


def topics() -> Iterator[tuple[str, str]]:
    from pydoc_data.topics import topics as texts

    for name in sorted(texts):
        yield f"topic {name}", texts[name]


def sources() -> Iterator[tuple[str, str]]:
    """Documentation strings of the library's modules, read from their source: importing some has side effects."""
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted(library.rglob("*.py")):
        parts = path.relative_to(library).with_suffix("").parts
        if LEFT_OUT.isdisjoint(parts) and all(part.isidentifier() for part in parts):
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            try:
                yield from strings(name, ast.parse(path.read_bytes()))
            except (SyntaxError, ValueError):
                continue  # some installations carry sources that are broken on purpose


def strings(name: str, node: ast.AST) -> Iterator[tuple[str, str]]:
    text = ast.get_docstring(node)
    if text:
        yield name, text
    for child in ast.iter_child_nodes(node):
        if isinstance(child, DEFINITIONS):
            yield from strings(f"{name}.{child.name}", child)


def compiled() -> Iterator[tuple[str, str]]:
    """Documentation strings of the modules that are written in C."""
    for module in sorted(sys.stdlib_module_names):
        if not module.startswith(("_test", "_xx", "xx")) and is_compiled(module):
            try:
                owner = importlib.import_module(module)
            except ImportError:
                continue  # it needs a library that this machine does not have
            yield from members(module, owner, deep=True)


def is_compiled(module: str) -> bool:
    if module in sys.builtin_module_names:
        return True
    spec = importlib.util.find_spec(module)
    return spec is not None and isinstance(spec.loader, importlib.machinery.ExtensionFileLoader)


def members(name: str, owner: object, *, deep: bool) -> Iterator[tuple[str, str]]:
    for attribute, value in sorted(vars(owner).items()):
        if isinstance(value, DOCUMENTED):
            text = value.__doc__
            if isinstance(text, str):
                yield f"{name}.{attribute}", inspect.cleandoc(text)
            if deep and isinstance(value, type) and value.__module__ == name:
                yield from members(f"{name}.{attribute}", value, deep=False)


# --- what comes back


def answer() -> int:
    """Embed the questions the same way and write down what lies nearest to each."""
    questions, vectors = DEMO / "questions.jsonl", DEMO / "question-vectors.jsonl"
    if not questions.exists():
        write_lines(questions, ((text, text) for text in QUESTIONS))
    status = packtrain_run(questions, vectors)
    if status:
        return status
    asked = dict(read_vectors(vectors))
    best: dict[str, list[tuple[float, str]]] = {text: [] for text in QUESTIONS}
    for key, vector in read_vectors(VECTORS):
        for text, found in best.items():
            heapq.heappush(found, (cosine(asked[text], vector), key))
            if len(found) > 5:
                heapq.heappop(found)
    write_nearest(best)
    return 0


def read_vectors(path: Path) -> Iterator[tuple[str, list[float]]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            yield row["key"], row["response"]["embedding"]["values"]


def cosine(one: list[float], other: list[float]) -> float:
    length = math.hypot(*one) * math.hypot(*other)
    return sum(map(operator.mul, one, other)) / length if length else 0.0


def write_nearest(best: dict[str, list[tuple[float, str]]]) -> None:
    rows = []
    for text, found in best.items():
        rows.append(f"\n{text}")
        rows.extend(f"  {similarity:.3f}  {key}" for similarity, key in sorted(found, reverse=True))
    unfinished = NEAREST.with_suffix(".unfinished")
    unfinished.write_text("\n".join(rows) + "\n", encoding="utf-8")
    unfinished.replace(NEAREST)


if __name__ == "__main__":
    sys.exit(main())
