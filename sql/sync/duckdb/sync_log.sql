-- sync_log: one row a source, how far it is. sync_status partial: the last run was killed, or its tap was.
CREATE OR REPLACE VIEW {schema}.sync_log AS
WITH since AS (
    SELECT source, coalesce(max(seq) FILTER (WHERE event = 'reset'), 0) AS seq FROM {schema}.sync_event GROUP BY source
),
last_run AS (
    SELECT source, arg_max(run_id, seq) AS run_id FROM {schema}.sync_event WHERE event <> 'reset' GROUP BY source
)
SELECT
    e.source,
    max(e.last_sync_ts) FILTER (WHERE e.seq >= since.seq) AS last_sync_ts,
    arg_max(e.last_txid, (e.last_sync_ts, e.seq)) FILTER (WHERE e.seq >= since.seq AND e.last_sync_ts IS NOT NULL) AS last_txid,
    count(*) FILTER (WHERE e.event = 'ended') AS sync_count,
    CASE WHEN count(last_run.run_id) = 0 THEN NULL
         ELSE coalesce(max(e.sync_status) FILTER (WHERE e.event = 'ended' AND e.run_id = last_run.run_id), 'partial')
    END AS sync_status,
    arg_max(e.state, e.seq) FILTER (WHERE e.state IS NOT NULL) AS state,
    max(e.written_at) AS updated_at
FROM {schema}.sync_event AS e
JOIN since USING (source)
LEFT JOIN last_run ON last_run.source = e.source
GROUP BY e.source;
