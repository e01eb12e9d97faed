"""Send very large JSONL workloads through LLM Batch APIs: nothing lost, nothing paid for twice.

The public names are listed in ``__init__.pyi``. A module is imported when one of its names is first used, so that
``import packtrain`` is quick and a command loads only what it uses.
"""

from __future__ import annotations

_modules: dict[str, str] = {}


def _public() -> dict[str, str]:
    """Public name -> the module that defines it."""
    if not _modules:
        import ast  # loading these takes longer than a command may be deaf to signals
        from pathlib import Path

        stub = ast.parse(Path(__file__).with_suffix(".pyi").read_bytes())
        imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
        _modules.update({name.name: f".{node.module}" for node in imports for name in node.names})
    return _modules


def __getattr__(name: str) -> object:
    if name == "__all__":
        return tuple(sorted(_public()))
    if name.startswith("__") or name not in _public():
        raise AttributeError(f"module 'packtrain' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_public()[name], __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_public()} - {"annotations"})
