-- record_end: what became of a run: by the error with which dbt ended, and by what its hooks say of each node.
INSERT INTO sluice.run_event (
    event, "AT", run_id, root_run_id, plan_id, project_name, environment, intent, attempt, run_status, models_run, models_failed, message
)
SELECT 'ended', CONVERT_TIMEZONE('UTC', CURRENT_TIMESTAMP()), :run_id, :run_id, :run_id, :job, 'snowflake', :intent, :attempt,
    CASE WHEN :problem IS NULL AND COUNT_IF(m.status IN ('ERROR', 'FAIL')) = 0 THEN 'SUCCESS' ELSE 'FAILED' END,
    COUNT_IF(m.status <> 'SKIPPED' AND SPLIT_PART(m.unique_id, '.', 1) NOT IN ('test', 'unit_test')),
    COUNT_IF(m.status IN ('ERROR', 'FAIL')),
    :problem
FROM sluice.run_event d
JOIN sluice.model_event m ON m.run_id = d.run_id
WHERE d.event = 'began' AND d.intent = 'dbt' AND d.root_run_id = :run_id;
