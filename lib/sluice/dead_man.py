"""Tells a health-check service that a run has ended, and how: it raises the alarm when nothing comes."""

import urllib.error
import urllib.request
from urllib.parse import urlsplit

import stamina

TIMEOUT_S = 10.0


def ping(url: str, exit_code: int) -> str | None:
    """GET `url`/`exit_code`, as services of this kind take it. Returns what went wrong, without the URL's path: it is a secret."""
    host = urlsplit(url).netloc.rpartition("@")[2]
    if urlsplit(url).scheme not in ("http", "https") or not host:
        return "--dead-man is no http(s) URL"
    try:
        for attempt in stamina.retry_context(on=OSError, attempts=3, timeout=30):
            with attempt, urllib.request.urlopen(f"{url.rstrip('/')}/{exit_code}", timeout=TIMEOUT_S):  # noqa: S310
                return None
    except urllib.error.HTTPError as problem:
        return f"{host} answered {problem.code}"
    except OSError:
        return f"{host} cannot be reached"
    return None
