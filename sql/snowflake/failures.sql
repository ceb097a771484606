-- failures: how many nodes failed in the runs of dbt that belong to a run.
SELECT COUNT(*) AS failures
FROM sluice.run_event d
JOIN sluice.model_event m ON m.run_id = d.run_id
WHERE d.event = 'began' AND d.intent = 'dbt' AND d.root_run_id = :run_id AND m.status IN ('ERROR', 'FAIL');
