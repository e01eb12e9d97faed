"""Send very large JSONL workloads through LLM Batch APIs: nothing lost, nothing paid for twice.

The public names are listed in ``__init__.pyi``. A module is imported when one of its names is first used, so that
``import packtrain`` is quick and a command loads only what it uses.
"""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path


def _modules() -> dict[str, str]:
    """Public name -> the module that defines it."""
    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_bytes())
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    return {name.name: f".{node.module}" for node in imports for name in node.names}


_MODULES = _modules()
__all__ = tuple(sorted(_MODULES))


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'packtrain' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULES[name], __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__} - {"annotations", "ast", "import_module", "Path"})
