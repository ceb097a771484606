"""The checks of sluice-doctor, in the order in which things fail for a newcomer.

    visit.py         what the checks share: settings, credentials, a connection, the project, the state store
    setup.py         Python and the packages of the lock, project and profile, the dbt package, Telegram
    connection.py    the warehouse: does it answer, may we do there what dbt does, do its mutations go on
    models.py        ignored vars, guards, models that nothing fills, models whose code has changed
    store.py         the state store, who holds its locks
    machine.py       disk and clock
    last_success.py  --max-age: did a run succeed lately

A check is a generator of findings and changes nothing. What it raises is its finding: `sluice_doctor` sees to that.
"""
