"""The report: what ran, what is covered and what it took, as one HTML file that needs nothing else.

    kept.py          checks and partitions, from the records in the log folder
    coverage_map.py  cells as a map: rows of model and stage, columns of months
    timeline.py      the last runs: batches as bars by wave and worker, retries and waits
    history.py       runs, retries, and what they saved
    slowest.py       models and batches that take longest, and their trend
    canaries.py      checks around the last refill, before and after
    syncs.py         rows and lag of each source
    partitions.py    parts and duplicates, before and after
    figure.py        what a figure is, and how names and messages are put into it
    draw_*.py        plain data -> figures: coverage, runs, results
    page.py          figures -> the page; page.css and page.js are its own style and script

Each figure's data come from a pure function; sluice.sluice_report asks state, records and warehouse.
"""
