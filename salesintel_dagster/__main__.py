"""`python -m salesintel_dagster` = `salesintel`."""

from __future__ import annotations

from salesintel_dagster.commands.app import main

if __name__ == "__main__":
    main()
