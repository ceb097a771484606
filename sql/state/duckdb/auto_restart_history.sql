-- auto_restart_history: the daily runs, full builds and retries, and what each retry saved: the last measured
-- durations of the models that it did not run again.
CREATE VIEW auto_restart_history AS
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
COMMENT ON VIEW auto_restart_history IS 'the daily runs, full builds and retries, and what each retry saved: the last measured durations of the models that it did not run again';
COMMENT ON COLUMN auto_restart_history.run_id IS 'whose it is';
COMMENT ON COLUMN auto_restart_history.project_name IS 'the dbt project';
COMMENT ON COLUMN auto_restart_history.environment IS 'the dbt target';
COMMENT ON COLUMN auto_restart_history.run_started_at IS 'when it began, UTC';
COMMENT ON COLUMN auto_restart_history.run_ended_at IS 'when it ended, UTC; null, no end was recorded';
COMMENT ON COLUMN auto_restart_history.run_duration_seconds IS 'from beginning to end';
COMMENT ON COLUMN auto_restart_history.run_status IS 'RUNNING, SUCCESS, FAILED, CANCELLED; RUNNING: it runs, or it was killed';
COMMENT ON COLUMN auto_restart_history.run_type IS 'full or retry';
COMMENT ON COLUMN auto_restart_history.retry_of IS 'the run whose failure is retried; null, it is no retry';
COMMENT ON COLUMN auto_restart_history.retry_sequence IS 'which retry of the failure, from 1; 0, a full build';
COMMENT ON COLUMN auto_restart_history.models_run IS 'models that were run';
COMMENT ON COLUMN auto_restart_history.models_failed IS 'models that failed';
COMMENT ON COLUMN auto_restart_history.models_planned IS 'models that it is to run';
COMMENT ON COLUMN auto_restart_history.models_total IS 'models that a full build would run';
COMMENT ON COLUMN auto_restart_history.saved_seconds IS 'measured seconds of the models that did not run again';
COMMENT ON COLUMN auto_restart_history.decision IS 'why the plan is what it is, in words';
