"""An exchange's markets and currencies, remembered for a day: ccxt wants them before anything else, and asks six times for them.

They are public, so nobody's keys matter, and a file that is old, broken or of a market too few is as good as none.
"""

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sluice import whole_file

DAY_S = 86_400.0


def recall(client: Any, path: Path, names: Iterable[str | None]) -> bool:
    """Whether ccxt's client now has the markets that `path` holds; the `names` of markets and currencies among them."""
    try:
        if not 0 <= time.time() - path.stat().st_mtime < DAY_S:
            return False
        markets, currencies = json.loads(path.read_text())
        if not markets or any(name and name not in markets and name not in currencies for name in names):
            return False
        client.set_markets(markets, currencies)
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return False
    return True


def remember(client: Any, path: Path) -> None:
    """Keep what the client knows. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    whole_file.write(path, json.dumps([client.markets, client.currencies or {}], default=str).encode())
