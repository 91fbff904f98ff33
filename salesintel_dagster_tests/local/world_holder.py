"""A process that opens a world, says so and waits: run by path with the home as its argument.

Standard output: one JSON line per event (`{"event": ...}`), then `{"ready": ..., "environment": ...}`. It ends when
its standard input does, or by a signal.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from salesintel_dagster.domain.errors import SalesIntelError
from salesintel_dagster.local.world import open_world


def _say(**facts: object) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def main() -> None:
    try:
        with open_world(Path(sys.argv[1]), on_event=lambda event: _say(event=event)) as world:
            _say(ready=True, environment=world.environment, owner_dsn=world.postgres.dsn("smartgo"))
            sys.stdin.read()
    except SalesIntelError as error:
        _say(error=str(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
