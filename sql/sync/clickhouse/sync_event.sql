-- sync_event: what happened to each source, append only; written by sync-cursor after the rows, for there are no transactions.
CREATE TABLE IF NOT EXISTS {schema}.sync_event (
    seq              UInt64,                            -- order of writing, counted for each source
    source           String,
    run_id           String,
    event            LowCardinality(String),            -- commit: rows, or a cursor, or both; ended: of a run; reset: by a person
    written_at       DateTime64(6, 'UTC'),
    stream           Nullable(String),
    state            Nullable(String),                  -- the tap's own, JSON; null: as before
    last_sync_ts     Nullable(DateTime64(6, 'UTC')),    -- the newest bookmark of the stream that the state covers
    last_txid        Nullable(String),                  -- and the key of its record
    received_rows    Int64,
    inserted_rows    Int64,
    updated_rows     Int64,
    unchanged_rows   Int64,
    rejected_rows    Int64,
    sync_status      Nullable(String),                  -- ended: success, partial, failed
    duration_seconds Nullable(Float64),
    message          Nullable(String)
)
ENGINE = MergeTree
ORDER BY (source, seq);
