"""``python -m packtrain``."""

from __future__ import annotations

from packtrain.cli import main

main()
