-- sync_reject: records that break their schema, as they came; written by sync-cursor with the rows of their batch.
CREATE TABLE IF NOT EXISTS {schema}.sync_reject (
    written_at       DateTime64(6, 'UTC'),
    run_id           String,
    source           String,
    stream           String,
    line             Int64,                             -- of the tap's output, counted from 1
    reason           String,
    record           String                             -- the line
)
ENGINE = MergeTree
ORDER BY (source, written_at);
