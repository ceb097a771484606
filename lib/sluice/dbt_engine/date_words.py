"""The words for dates, built once: agate has parsedatetime build them anew, with all their patterns, for each table that it makes."""

import functools

import parsedatetime


def keep() -> None:
    """From here on in this process. A calendar reads them and changes none."""
    parsedatetime.Constants = functools.cache(parsedatetime.Constants)  # type: ignore[assignment,misc]
