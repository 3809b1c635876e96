"""`python -m vault.cli`: the command line where the script `datavault` is not on PATH."""

from vault.cli import main

main()
