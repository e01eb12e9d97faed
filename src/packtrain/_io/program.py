"""Processes of our own that are given nothing of the caller's."""

from __future__ import annotations

import sys


def command(module: str, *arguments: str) -> list[str]:
    """To call ``main`` of one of our modules, with ``arguments`` in its ``sys.argv``.

    multiprocessing would run the caller's main module again. Start it with an empty environment, so that no
    credentials are ever in it.
    """
    code = f"import sys; sys.path[:] = {sys.path!r}; from {module} import main; main()"
    return [sys.executable, "-I", "-S", "-c", code, *arguments]
