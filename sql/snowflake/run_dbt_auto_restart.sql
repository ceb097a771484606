-- RUN_DBT_AUTO_RESTART: builds everything, or after a failure only what it left undone. Returns the reason; fails when dbt does.
--   project_name         the DBT PROJECT object; its name is also that of the job
--   max_retry_age_hours  older failures are not retried
--   max_attempts         retries of one failure before everything is built again
-- With the rights of its caller. A project's audit hooks (sql/dbt) must write to the schema sluice.
CREATE OR REPLACE PROCEDURE sluice.run_dbt_auto_restart(
    project_name VARCHAR, max_retry_age_hours FLOAT DEFAULT 24, max_attempts NUMBER DEFAULT 3
)
RETURNS VARCHAR
LANGUAGE SQL
COMMENT = 'builds everything with dbt, or after a failure only what failed and all that depends on it'
EXECUTE AS CALLER
AS
$$
DECLARE
    not_built EXCEPTION (-20001, 'dbt did not build everything: SELECT * FROM sluice.v_auto_restart_history; SELECT * FROM sluice.model_log');
    job VARCHAR;
    run_id VARCHAR;
    own_session NUMBER;
    decided_at TIMESTAMP_TZ;
    decided RESULTSET;
    action VARCHAR DEFAULT 'full';
    intent VARCHAR;
    reason VARCHAR;
    selector VARCHAR;
    retry_of VARCHAR;
    retry NUMBER DEFAULT 0;
    attempt NUMBER;
    models NUMBER;
    total NUMBER;
    saved_s FLOAT;
    running_session NUMBER;
    statements NUMBER DEFAULT 0;
    args VARCHAR;
    problem VARCHAR;
    failures NUMBER;
BEGIN
    job := LOWER(project_name);
    run_id := UUID_STRING();
    own_session := TO_NUMBER(CURRENT_SESSION());
    decided_at := CONVERT_TIMEZONE('UTC', CURRENT_TIMESTAMP());

    BEGIN
        decided := (
{decision}
        );
        LET found CURSOR FOR decided;
        FOR one IN found DO
            action := one.action;
            reason := one.reason;
            selector := one.selector;
            retry_of := one.retry_of;
            retry := one.retry;
            models := one.models;
            total := one.total;
            saved_s := one.saved_s;
            running_session := one.running_session;
        END FOR;
        IF (running_session <> own_session) THEN
            statements := (
{at_work}
            );
        END IF;
    EXCEPTION
        WHEN OTHER THEN
            action := 'full';
            reason := 'everything: what ran before cannot be read: ' || SQLERRM;
            selector := NULL;
            retry_of := NULL;
            retry := 0;
            models := NULL;
            saved_s := NULL;
            statements := 0;
    END;
    IF (statements > 0) THEN
        RETURN 'nothing: a run of ' || job || ' is at work in session ' || running_session;
    END IF;

    intent := IFF(action = 'retry', 'retry', 'daily');
    attempt := retry + 1;
    args := 'build' || COALESCE(' --select ' || selector, '') || ' --vars ''{"sluice_run": "' || run_id || '"}''';
    BEGIN
{record_beginning}
    EXCEPTION
        WHEN OTHER THEN
            reason := reason || '; not recorded: ' || SQLERRM;
    END;
    BEGIN
        CALL sluice.run_dbt_project(:project_name, :args);
    EXCEPTION
        WHEN OTHER THEN
            problem := SQLERRM;
    END;
{record_end}
    failures := (
{failures}
    );
    IF (problem IS NOT NULL OR failures > 0) THEN
        RAISE not_built;
    END IF;
    RETURN reason;
END;
$$;
