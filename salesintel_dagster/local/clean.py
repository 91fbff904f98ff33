"""`python -m salesintel_dagster.local.clean HOME`: delete an embedded world, also what lies outside its folder.

As root, and where `nobody` could not reach HOME, Postgres lives in a folder of ours under /var/tmp, see
`WorldFiles.reach`. Only such a folder is deleted that is ours and whose own world, by its `home` file, is gone.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from salesintel_dagster.domain.errors import WorldError
from salesintel_dagster.local.world_files import WorldFiles


def clean(home: Path) -> None:
    """Delete the world of `home` and every outside folder whose world is gone. Raises WorldError while it runs."""
    files = WorldFiles(home)
    if files.home.is_dir():
        locks = [files.try_lock(name) for name in ("lock", "children.lock")]
        try:
            if None in locks:
                raise WorldError(f"{files.home}: this world is running; stop `salesintel up` and other commands first")
            shutil.rmtree(files.home)
        finally:
            for lock in locks:
                if lock is not None:
                    os.close(lock)
    files.sweep()


if __name__ == "__main__":
    try:
        clean(Path(sys.argv[1]))
    except (WorldError, OSError) as error:
        sys.exit(f"clean: {error}")
