-- model_lock: claims: who works on which run and models, or wants to. Append only: the latest row of an owner counts, until
-- it says free, or has not been renewed for lasts_seconds by the clock of the server. See lib/sluice/state/leases.py.
CREATE TABLE model_lock (
    seq              UInt64 DEFAULT generateSnowflakeID() COMMENT 'order of writing',
    owner            String                 COMMENT 'the claim, an id of its own',
    status           String                 COMMENT 'wanted, held or free',
    written_at       DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'when it was written, by the clock of the server',
    lasts_seconds    Int64                  COMMENT 'how long it holds unless it is renewed',
    names            Array(String)          COMMENT 'what is claimed: run R, or model P/T/U',
    run_id           String                 COMMENT 'the run that claims',
    host             String                 COMMENT 'where it runs',
    pid              Int64                  COMMENT 'its process there',
    command          String                 COMMENT 'its command',
    began_at         DateTime64(3, 'UTC')   COMMENT 'since when'
) ENGINE = MergeTree
ORDER BY (owner, seq)
TTL toDateTime(written_at) + INTERVAL 1 DAY
COMMENT 'claims: who works on which run and models, or wants to. The latest row of an owner counts, until it says free or was not renewed';
