-- Examples of tasks, each suspended until it is resumed. Put in your warehouse, database, schema and project; the tasks belong into
-- the schema of the DBT PROJECT object, and have a warehouse of their own: serverless tasks cannot run dbt.

-- Every night at 5: everything, or what the last night left undone.
CREATE OR REPLACE TASK my_db.my_schema.sluice_daily
    WAREHOUSE = my_warehouse
    SCHEDULE = 'USING CRON 0 5 * * * UTC'
    ALLOW_OVERLAPPING_EXECUTION = FALSE
    USER_TASK_TIMEOUT_MS = 14400000
AS
    CALL sluice.run_dbt_auto_restart('my_db.my_schema.shop', 24, 3);

-- Instead of it, every hour: a failure older than two hours is not worth a retry, since everything has been due again.
CREATE OR REPLACE TASK my_db.my_schema.sluice_hourly
    WAREHOUSE = my_warehouse
    SCHEDULE = 'USING CRON 0 * * * * UTC'
    ALLOW_OVERLAPPING_EXECUTION = FALSE
    USER_TASK_TIMEOUT_MS = 7200000
AS
    CALL sluice.run_dbt_auto_restart('my_db.my_schema.shop', 2, 3);

-- After the night's build, when it succeeded: the tests that are too slow to stand between models.
CREATE OR REPLACE TASK my_db.my_schema.sluice_tests
    WAREHOUSE = my_warehouse
    AFTER my_db.my_schema.sluice_daily
AS
    CALL sluice.run_dbt_project('my_db.my_schema.shop', 'test --select tag:slow');

-- By hand, EXECUTE TASK my_db.my_schema.sluice_reload: a month that was filled in later, and all that reads it.
CREATE OR REPLACE TASK my_db.my_schema.sluice_reload
    WAREHOUSE = my_warehouse
AS
    CALL sluice.run_dbt_project('my_db.my_schema.shop', 'build --select int_balances_daily+ --vars ''{"start_month": "2026-04-01", "end_month": "2026-04-01"}''');

-- Children first; the last line starts the schedule.
ALTER TASK my_db.my_schema.sluice_tests RESUME;
ALTER TASK my_db.my_schema.sluice_daily RESUME;
