"""How dbt is run: one process that has dbt imported and parsed, and workers forked from it that run batches.

    client.py          the caller's side; the only module to import from outside
    loader.py          the process that imports dbt, parses, and forks      (python -m sluice.dbt_engine.loader)
    loader_process.py  where a loader comes from: one's own, or lent from wave to wave
    worker.py          a forked process and what it serves
    session.py         many batches inside one `dbt run`                    (the warm path)
    fresh.py           one batch as a complete `dbt run` of its own         (the slower path that needs no proof)
    asides.py          models that are built under another name

What makes the warm path right is in parse_check.py and parse_effects.py (config that moves with vars) and var_readers.py
(YAML that does).
"""
