"""What a plan would destroy, said before anything runs: pure functions over manifest, plan and facts of the warehouse.

    case.py         what a guard looks at, and what it says
    writing.py      how a batch writes: replaces, appends, overwrites partitions
    partitions.py   what a partition holds: spans of time, values of columns
    replaced.py     G01 table-batched, G02 overwrite-narrow
    layout.py       G09 partition-cap, G10 moved-key
    order.py        G04 reader-with-writer, G05 cumulative
    slices.py       stages as sets: what each takes, what none or two take
    coverage.py     G06 stage-hole, G07 stage-overlap
    rendered.py     G11 parse-time-vars, and which configs dbt must be asked for
    populated.py    G03 append-populated, G08 late-start, G13 never-built
    hooks.py        G12 hook-tax
    ignored_vars.py G14 ignored-vars
    facts.py        the questions to the warehouse
    check.py        what a planner calls
    health.py       never-seeded and stale-code, which no plan can know

docs/guards.md has a page on each.
"""
