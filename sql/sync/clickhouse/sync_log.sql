-- sync_log: one row a source, how far it is. sync_status partial: the last run was killed, or its tap was.
CREATE OR REPLACE VIEW {schema}.sync_log AS
WITH
since AS (
    SELECT source AS since_source, maxIf(seq, event = 'reset') AS since_seq,
           argMaxIf(run_id, seq, event <> 'reset') AS last_run, countIf(event <> 'reset') AS runs
    FROM {schema}.sync_event GROUP BY source
)
SELECT
    e.source AS source,
    maxIf(e.last_sync_ts, e.seq >= since_seq) AS last_sync_ts,
    argMaxIf(e.last_txid, (e.last_sync_ts, e.seq), e.seq >= since_seq AND e.last_sync_ts IS NOT NULL) AS last_txid,
    countIf(e.event = 'ended') AS sync_count,
    if(any(runs) = 0, NULL, coalesce(maxIf(e.sync_status, e.event = 'ended' AND e.run_id = last_run), 'partial')) AS sync_status,
    argMaxIf(e.state, e.seq, e.state IS NOT NULL) AS state,
    max(e.written_at) AS updated_at
FROM {schema}.sync_event AS e
INNER JOIN since ON since_source = e.source
GROUP BY e.source;
