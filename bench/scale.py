"""How cost grows: `python -m bench.scale [PARTS]` (8 minutes), all parts unless some are named.

subjects   10,000 and 100,000 customers (--million: 1,000,000 besides; 12 minutes and 8 GB more)
rules      10, 1,000 and 10,000 rules
clients    1 to 64 callers, the service beside an echo
workers    1 and 2 processes, both stores
memory     per cached data key and per connection

Kept in bench/results/scale.json; `make bench-plots` draws it.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from bench.measuring import keep, read_alike
from bench.scale_clients import scale_clients
from bench.scale_memory import scale_memory
from bench.scale_rules import scale_rules
from bench.scale_subjects import LARGEST, SIZES, scale_subjects
from bench.scale_workers import scale_workers
from vault import logs

PARTS: Final = ("clients", "rules", "memory", "workers", "subjects")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.scale",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PARTS", help=", ".join(PARTS))
    parser.add_argument("--million", action="store_true", help="a million customers too")
    parser.add_argument("--folder", type=Path, help="where a million fits; else the temporary folder")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}")
    logs.configure(level="ERROR")
    say = Console(width=150).print
    kept: dict[str, Any] = read_alike("scale")
    for part in given.parts or PARTS:
        with tempfile.TemporaryDirectory(prefix="datavault-bench-", dir=given.folder) as name:
            folder = Path(name)
            # PostgreSQL runs as another user where this is root
            folder.chmod(0o755)
            measured: Any
            match part:
                case "clients":
                    measured = scale_clients(folder, say)
                case "rules":
                    measured = scale_rules(folder, say)
                case "memory":
                    measured = scale_memory(folder, say)
                case "workers":
                    measured = scale_workers(folder, say)
                case _:
                    measured = scale_subjects(folder, (*SIZES, LARGEST) if given.million else SIZES, say)
        say(f"written to {keep('scale', kept := {**kept, part: measured})}")


if __name__ == "__main__":
    main()
