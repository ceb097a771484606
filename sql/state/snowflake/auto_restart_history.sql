-- auto_restart_history: the daily runs, full builds and retries, and what each retry saved: the last measured
-- durations of the models that it did not run again.
CREATE VIEW auto_restart_history (
    run_id               COMMENT 'whose it is',
    project_name         COMMENT 'the dbt project',
    environment          COMMENT 'the dbt target',
    run_started_at       COMMENT 'when it began, UTC',
    run_ended_at         COMMENT 'when it ended, UTC; null, no end was recorded',
    run_duration_seconds COMMENT 'from beginning to end',
    run_status           COMMENT 'RUNNING, SUCCESS, FAILED, CANCELLED; RUNNING: it runs, or it was killed',
    run_type             COMMENT 'full or retry',
    retry_of             COMMENT 'the run whose failure is retried; null, it is no retry',
    retry_sequence       COMMENT 'which retry of the failure, from 1; 0, a full build',
    models_run           COMMENT 'models that were run',
    models_failed        COMMENT 'models that failed',
    models_planned       COMMENT 'models that it is to run',
    models_total         COMMENT 'models that a full build would run',
    saved_seconds        COMMENT 'measured seconds of the models that did not run again',
    decision             COMMENT 'why the plan is what it is, in words'
)
COMMENT = 'the daily runs, full builds and retries, and what each retry saved: the last measured durations of the models that it did not run again' AS
SELECT
    run_id,
    project_name,
    environment,
    run_started_at,
    run_ended_at,
    run_duration_seconds,
    run_status,
    CASE intent WHEN 'retry' THEN 'retry' ELSE 'full' END AS run_type,
    retry_of,
    attempt - 1                                  AS retry_sequence,
    models_run,
    models_failed,
    models_planned,
    models_total,
    coalesce(saved_seconds, 0)                   AS saved_seconds,
    decision
FROM run_log
WHERE intent IN ('daily', 'retry');
