"""``python -m packtrain.testing.audit``: prints the findings, one per line; exits with 1 if there are any."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .run import audit_run
from .service import audit_service


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m packtrain.testing.audit", description=__doc__)
    parser.add_argument("--input", type=Path, nargs="+", required=True, help="its files, one by one and in order")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--state", type=Path, help="by default OUT.packtrain")
    parser.add_argument("--service", type=Path, help="directory of the local service, which must have stopped")
    parser.add_argument("--run", default="main", help="its name in the manifest")
    parser.add_argument("--exit-code", type=int, help="how its last start ended")
    chosen = parser.parse_args()
    findings = audit_run(
        inputs=chosen.input,
        out=chosen.out,
        state=chosen.state or chosen.out.with_name(f"{chosen.out.name}.packtrain"),
        service=chosen.service,
        run=chosen.run,
        exit_code=chosen.exit_code,
    )
    if chosen.service is not None:
        findings += audit_service(chosen.service)
    print(*findings, sep="\n", end="\n" if findings else "")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
