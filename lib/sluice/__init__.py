"""Sluice operates a dbt warehouse in batches that fit. Start reading at records.py."""

__version__ = "0.1.0"
