-- auto_restart_history: the daily runs, full builds and retries, and what each retry saved.
-- saved_seconds: the last measured durations of the models that a retry did not run again.
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
