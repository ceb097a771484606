-- record_beginning: what a run is to do, before it does it: a run that is killed counts as an attempt.
INSERT INTO sluice.run_event (
    event, "AT", run_id, root_run_id, plan_id, project_name, environment, intent, attempt, argv, host, pid, vars, retry_of, decision,
    models_planned, models_total, saved_seconds
)
SELECT 'began', :decided_at, :run_id, :run_id, :run_id, :job, 'snowflake', :intent, :attempt, :args, 'snowflake', :own_session, '{}',
    :retry_of, :reason, :models, :total, :saved_s;
