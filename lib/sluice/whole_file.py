"""A file that is there as a whole or as it was: readers, and whoever comes after a kill, never see a part of it."""

import os
from pathlib import Path


def write(path: Path, content: bytes) -> None:
    """Raises OSError, and then nothing has changed. What must survive the machine's end, too, is not for here: nothing is synced."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
