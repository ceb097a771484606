-- model_lock: claims: who works, or wants to, on which run and models. Append only; the latest row of an owner counts,
-- while it is not free and has not expired. See lib/sluice/state/leases.py.
CREATE TABLE model_lock (
    seq              UInt64 DEFAULT generateSnowflakeID() COMMENT 'order of writing',
    owner            String                 COMMENT 'the process that claims, an id of its own',
    status           String                 COMMENT 'wanted, held or free',
    expires_at       DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') + toIntervalSecond(60) COMMENT 'when it ends unless it is renewed, by the clock of the server',
    names            Array(String)          COMMENT 'what is claimed: run R, model P/T/U',
    run_id           String                 COMMENT 'the run of the owner',
    host             String                 COMMENT 'where the owner runs',
    pid              Int64                  COMMENT 'its process there',
    command          String                 COMMENT 'its command',
    began_at         DateTime64(3, 'UTC')   COMMENT 'since when'
) ENGINE = MergeTree
ORDER BY (owner, seq)
TTL toDateTime(expires_at) + INTERVAL 1 DAY
COMMENT 'claims: who works, or wants to, on which run and models. Append only; the latest row of an owner counts, while it is not free and has not expired. See lib/sluice/state/leases.py';
