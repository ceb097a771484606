"""Folders of what a start has made and the next one need not: caches, which may vanish at any time."""

import os
import shutil
from contextlib import suppress
from pathlib import Path


def open_folder(folder: Path, most: int) -> None:
    """Make sure that it is there; emptied when it holds more than `most` files, which old versions have left."""
    with suppress(FileNotFoundError):
        if len(os.listdir(folder)) > most:
            shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
