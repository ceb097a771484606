-- sync_reject: records that break their schema, as they came; written by sync-cursor with the rows of their batch.
CREATE TABLE IF NOT EXISTS {schema}.sync_reject (
    written_at       timestamptz  NOT NULL,
    run_id           text         NOT NULL,
    source           text         NOT NULL,
    stream           text         NOT NULL,
    line             bigint       NOT NULL,  -- of the tap's output, counted from 1
    reason           text         NOT NULL,
    record           text         NOT NULL   -- the line
);
