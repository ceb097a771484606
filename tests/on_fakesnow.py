"""Runs or parses SQL of Snowflake on an emulator, fakesnow, in the environment of requirements-snowflake.txt, .venv-snowflake.

JSON in, JSON out: a list of {"run": sql} or {"parse": sql}; for each, in order, {"rows": [[…]]}, {"parsed": [kinds]} or {"error": text}.
A kind is that of sqlglot's expression; `Command` is a statement that it takes as a string without looking into it.
"""

import json
import logging
import sys
import warnings
from decimal import Decimal

import fakesnow
import snowflake.connector
import sqlglot


def plain(value: object) -> object:
    """What JSON does not have: a NUMBER as a number, anything else as text."""
    return (int(value) if value == int(value) else float(value)) if isinstance(value, Decimal) else str(value)


def answer(cursor, asked: dict) -> dict:
    try:
        if "parse" in asked:
            return {
                "parsed": [
                    type(found).__name__ for found in sqlglot.parse(asked["parse"], dialect="snowflake") if found
                ]
            }
        cursor.execute(asked["run"])
        return {"rows": cursor.fetchall()}
    except (snowflake.connector.errors.Error, sqlglot.errors.SqlglotError, NotImplementedError) as problem:
        return {"error": f"{type(problem).__name__}: {problem}"}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    with fakesnow.patch():
        cursor = snowflake.connector.connect(database="shop", schema="public").cursor()
        json.dump([answer(cursor, asked) for asked in json.load(sys.stdin)], sys.stdout, default=plain)
