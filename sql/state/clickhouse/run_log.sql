-- run_log: one row a run, its latest state. RUNNING means that no end was recorded: it runs, or it was killed.
CREATE VIEW run_log AS
SELECT
    began.run_id                                 AS run_id,
    began.project_name                           AS project_name,
    began.environment                            AS environment,
    began.at                                     AS run_started_at,
    if(ended.run_id = '', NULL, ended.at)        AS run_ended_at,
    if(ended.run_id = '', NULL, (toUnixTimestamp64Milli(ended.at) - toUnixTimestamp64Milli(began.at)) / 1000) AS run_duration_seconds,
    coalesce(ended.run_status, 'RUNNING')        AS run_status,
    ended.models_run                             AS models_run,
    ended.models_failed                          AS models_failed,
    began.intent                                 AS intent,
    began.attempt                                AS attempt,
    began.argv                                   AS argv,
    began.vars                                   AS vars,
    began.code_version                           AS code_version,
    began.root_run_id                            AS root_run_id,
    began.plan_id                                AS plan_id,
    began.plan                                   AS plan,
    began.host                                   AS host,
    began.pid                                    AS pid,
    began.retry_of                               AS retry_of,
    began.decision                               AS decision,
    began.models_planned                         AS models_planned,
    began.models_total                           AS models_total,
    began.saved_seconds                          AS saved_seconds,
    began.root_run_id IN (SELECT d.root_run_id FROM run_event AS d WHERE d.event = 'discarded') AS is_discarded
FROM (SELECT * FROM run_event WHERE event = 'began' ORDER BY seq DESC LIMIT 1 BY run_id) AS began
LEFT JOIN (SELECT * FROM run_event WHERE event = 'ended' ORDER BY seq DESC LIMIT 1 BY run_id) AS ended
    ON ended.run_id = began.run_id AND ended.seq > began.seq
SETTINGS join_use_nulls = 0
COMMENT 'one row a run, its latest state. RUNNING means that no end was recorded: it runs, or it was killed';
