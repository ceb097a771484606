-- sync_reject: records that break their schema, as they came; written by sync-cursor with the rows of their batch.
CREATE TABLE IF NOT EXISTS {schema}.sync_reject (
    written_at       TIMESTAMPTZ  NOT NULL,
    run_id           VARCHAR      NOT NULL,
    source           VARCHAR      NOT NULL,
    stream           VARCHAR      NOT NULL,
    line             BIGINT       NOT NULL,  -- of the tap's output, counted from 1
    reason           VARCHAR      NOT NULL,
    record           VARCHAR      NOT NULL   -- the line
);
