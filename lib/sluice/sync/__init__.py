"""Rows from a tap into a database: each key once, nothing rewritten that did not change, the cursor with the rows."""
