-- decision: everything, or what failed last and all that depends on it. One row for each job that asks; RUN_DBT_AUTO_RESTART
-- asks for one. The same decision as lib/sluice/restart.py, from what the log can know inside a warehouse: not the code.
--   action      full or retry; reason: why, in words
--   selector    of dbt, for a retry: the nodes that failed or were skipped and what depends on them; the models that a
--               failed test reads, by 1+test
--   retry_of    the run whose failure it is; retry: which retry of it, from 1
--   models, total, estimate_s, full_s, saved_s   seconds are last measured durations; null where a failed test hides what runs
--   running_session   whose run has no end: it is at work, or was killed
WITH asked AS (
    SELECT :job AS job, :max_retry_age_hours AS max_retry_age_hours, :max_attempts AS max_attempts, :decided_at AS decided_at
),
runs AS (
    SELECT l.*, a.job, ROW_NUMBER() OVER (PARTITION BY a.job ORDER BY l.run_started_at DESC, l.run_id DESC) AS nth
    FROM sluice.run_log l
    JOIN asked a ON a.job = l.project_name
    WHERE l.intent IN ('daily', 'retry')
),
last_run AS (
    SELECT job, run_id, run_status, COALESCE(retry_of, run_id) AS first_id,
        CASE run_status WHEN 'RUNNING' THEN pid END AS running_session
    FROM runs
    WHERE nth = 1 AND NOT is_discarded
),
failure AS (
    SELECT r.job, r.run_id, r.nth, r.run_started_at, r.retry_of
    FROM runs r
    JOIN last_run f ON f.job = r.job AND f.first_id IN (r.run_id, r.retry_of)
),
lasting AS (
    SELECT job, COUNT(retry_of) AS retries, MIN(run_started_at) AS began_at
    FROM failure
    GROUP BY job
),
outcomes AS (
    SELECT r.job, r.nth, m.seq, m.unique_id, m.model_name, m.status, m.duration_seconds,
        SPLIT_PART(m.unique_id, '.', 1) IN ('test', 'unit_test') AS is_test
    FROM runs r
    JOIN sluice.run_event d ON d.root_run_id = r.run_id AND d.event = 'began' AND d.intent = 'dbt'
    JOIN sluice.model_event m ON m.run_id = d.run_id
    WHERE r.nth <= 200
),
seconds AS (
    SELECT job, unique_id, duration_seconds
    FROM outcomes
    WHERE status = 'SUCCESS' AND NOT is_test
    QUALIFY ROW_NUMBER() OVER (PARTITION BY job, unique_id ORDER BY nth, seq DESC) = 1
),
nodes AS (
    SELECT o.job, o.unique_id, o.model_name, o.is_test, o.status NOT IN ('SUCCESS', CASE WHEN o.is_test THEN 'SKIPPED' ELSE '' END) AS is_left
    FROM outcomes o
    JOIN failure f ON f.job = o.job AND f.nth = o.nth
    QUALIFY ROW_NUMBER() OVER (PARTITION BY o.job, o.unique_id ORDER BY o.nth, o.seq DESC) = 1
),
usual AS (
    SELECT n.job, MEDIAN(s.duration_seconds) AS s
    FROM nodes n
    JOIN seconds s ON s.job = n.job AND s.unique_id = n.unique_id
    GROUP BY n.job
),
what_is_left AS (
    SELECT n.job,
        COUNT_IF(n.is_left) AS nodes_left,
        COUNT_IF(n.is_left AND NOT n.is_test) AS models,
        COUNT_IF(n.is_left AND n.is_test) AS tests,
        COUNT_IF(NOT n.is_test) AS total,
        COUNT_IF(n.is_left AND NOT REGEXP_LIKE(n.model_name, '[A-Za-z_][A-Za-z0-9_]*')) AS unnameable,
        ROUND(SUM(CASE WHEN n.is_left AND NOT n.is_test THEN COALESCE(s.duration_seconds, u.s) END), 3) AS estimate_s,
        ROUND(SUM(CASE WHEN NOT n.is_test THEN COALESCE(s.duration_seconds, u.s) END), 3) AS full_s,
        ROUND(SUM(CASE WHEN n.is_left THEN 0 ELSE COALESCE(s.duration_seconds, 0) END), 3) AS saved_s,
        LISTAGG(CASE WHEN n.is_left THEN CASE WHEN n.is_test THEN '1+' ELSE '' END || n.model_name || '+' END, ' ')
            WITHIN GROUP (ORDER BY n.unique_id) AS selector
    FROM nodes n
    LEFT JOIN seconds s ON s.job = n.job AND s.unique_id = n.unique_id
    LEFT JOIN usual u ON u.job = n.job
    GROUP BY n.job
),
failed AS (
    SELECT job, model_name, ROW_NUMBER() OVER (PARTITION BY job ORDER BY seq) AS place
    FROM outcomes
    WHERE nth = 1 AND status NOT IN ('SUCCESS', 'SKIPPED')
),
failed_names AS (
    SELECT job, LISTAGG(CASE WHEN place <= 3 THEN model_name END, ', ') WITHIN GROUP (ORDER BY place)
        || CASE WHEN COUNT(*) > 3 THEN ' and ' || (COUNT(*) - 3) || ' more' ELSE '' END AS names
    FROM failed
    GROUP BY job
),
facts AS (
    SELECT a.job, a.max_retry_age_hours, a.max_attempts, l.run_id, l.run_status, l.first_id, l.running_session, c.retries,
        GREATEST(TIMESTAMPDIFF(millisecond, c.began_at, a.decided_at) / 1000, 0) AS age_s,
        COALESCE(w.nodes_left, 0) AS nodes_left, w.models, w.tests, w.total, w.unnameable, w.selector, w.full_s,
        CASE WHEN w.tests = 0 THEN w.estimate_s END AS estimate_s,
        CASE WHEN w.tests = 0 THEN w.saved_s END AS saved_s,
        CASE
            WHEN l.run_status = 'RUNNING' THEN COALESCE('the last run was cut off in ' || n.names, 'the last run was cut off')
            ELSE COALESCE(n.names, 'the last run') || CASE l.run_status WHEN 'FAILED' THEN ' failed' ELSE ' was cancelled' END
        END AS what
    FROM asked a
    LEFT JOIN last_run l ON l.job = a.job
    LEFT JOIN lasting c ON c.job = a.job
    LEFT JOIN what_is_left w ON w.job = a.job
    LEFT JOIN failed_names n ON n.job = a.job
),
worded AS (
    SELECT *,
        what || ' ' || CASE
            WHEN age_s < 120 THEN CAST(ROUND(age_s) AS INTEGER) || ' s'
            WHEN age_s < 7200 THEN CAST(ROUND(age_s / 60) AS INTEGER) || ' min'
            ELSE CAST(ROUND(age_s / 3600) AS INTEGER) || ' h'
        END || ' ago' AS what_when,
        CASE WHEN estimate_s >= 10 THEN CAST(CAST(ROUND(estimate_s) AS INTEGER) AS VARCHAR)
            ELSE CAST(CAST(ROUND(estimate_s, 1) AS NUMBER(18, 1)) AS VARCHAR) END AS short_seconds,
        CASE WHEN full_s >= 10 THEN CAST(CAST(ROUND(full_s) AS INTEGER) AS VARCHAR)
            ELSE CAST(CAST(ROUND(full_s, 1) AS NUMBER(18, 1)) AS VARCHAR) END AS long_seconds
    FROM facts
),
reasons AS (
    SELECT *,
        CASE
            WHEN run_id IS NULL THEN 'no earlier run is known'
            WHEN run_status = 'SUCCESS' THEN 'the last run succeeded'
            WHEN retries >= max_attempts THEN retries || CASE retries WHEN 1 THEN ' retry' ELSE ' retries' END || ' did not help: ' || what_when
            WHEN age_s >= max_retry_age_hours * 3600
                THEN what_when || ', more than ' || REGEXP_REPLACE(CAST(max_retry_age_hours AS VARCHAR), '[.]0+$', '') || ' h'
            WHEN nodes_left = 0 THEN what_when || ', and no model is known to have failed'
            WHEN unnameable > 0 THEN what_when || ', and the name of one cannot be given to dbt'
        END AS why_everything
    FROM worded
)
SELECT
    job,
    CASE WHEN why_everything IS NULL THEN 'retry' ELSE 'full' END AS action,
    COALESCE(
        'everything: ' || why_everything,
        'retry ' || (retries + 1) || ' of ' || max_attempts || ': ' || what_when || '; ' || models || ' of ' || total || ' models'
            || CASE WHEN tests > 0 THEN ' and those that ' || tests || CASE tests WHEN 1 THEN ' failed test reads' ELSE ' failed tests read' END
                ELSE COALESCE(', about ' || short_seconds || ' s instead of ' || long_seconds || ' s', '') END
    ) AS reason,
    CASE WHEN why_everything IS NULL THEN selector END AS selector,
    CASE WHEN why_everything IS NULL THEN first_id END AS retry_of,
    CASE WHEN why_everything IS NULL THEN retries + 1 ELSE 0 END AS retry,
    CASE WHEN why_everything IS NULL THEN models ELSE total END AS models,
    total,
    CASE WHEN why_everything IS NULL THEN estimate_s ELSE full_s END AS estimate_s,
    full_s,
    CASE WHEN why_everything IS NULL THEN saved_s END AS saved_s,
    running_session
FROM reasons;
