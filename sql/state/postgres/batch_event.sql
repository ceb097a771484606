-- batch_event: intent before and outcome after each attempt at a batch, append only. An intent without an outcome: the
-- process died in between. Where nobody but a person can know what became of it, sluice-state resolve writes resolved,
-- with status ok (rows are there) or null (do it again).
CREATE TABLE batch_event (
    seq              bigint GENERATED ALWAYS AS IDENTITY,
    event            text             NOT NULL CHECK (event IN ('intent', 'outcome', 'resolved')),
    at               timestamptz(3)   NOT NULL,
    run_id           text             NOT NULL,
    root_run_id      text             NOT NULL,
    plan_id          text             NOT NULL,
    batch_id         text             NOT NULL,
    batch_seq        bigint           NOT NULL,
    model_name       text,
    stage            text             NOT NULL,
    window_start     date,
    window_end       date,
    full_refresh     boolean          NOT NULL,
    attempt          bigint           NOT NULL,
    status           text,
    duration_seconds double precision,
    message          text,
    result           text,
    PRIMARY KEY (seq)
);
CREATE INDEX batch_event_root ON batch_event (root_run_id, batch_id, seq);
CREATE INDEX batch_event_run ON batch_event (run_id);
COMMENT ON TABLE batch_event IS 'intent before and outcome after each attempt at a batch, append only. An intent without an outcome: the process died in between. Where nobody but a person can know what became of it, sluice-state resolve writes resolved, with status ok (rows are there) or null (do it again)';
COMMENT ON COLUMN batch_event.seq IS 'order of writing';
COMMENT ON COLUMN batch_event.event IS 'intent, outcome or resolved';
COMMENT ON COLUMN batch_event.at IS 'when it was written, UTC';
COMMENT ON COLUMN batch_event.run_id IS 'the run';
COMMENT ON COLUMN batch_event.root_run_id IS 'the run that first began this plan';
COMMENT ON COLUMN batch_event.plan_id IS 'the plan';
COMMENT ON COLUMN batch_event.batch_id IS 'hash of project, target, model, stage, window, vars, mode';
COMMENT ON COLUMN batch_event.batch_seq IS 'place in the plan, from 1';
COMMENT ON COLUMN batch_event.model_name IS 'unique_id of the model; null, a whole selection';
COMMENT ON COLUMN batch_event.stage IS 'the slice that is not time';
COMMENT ON COLUMN batch_event.window_start IS 'first day of the window, included';
COMMENT ON COLUMN batch_event.window_end IS 'last day of the window, excluded';
COMMENT ON COLUMN batch_event.full_refresh IS 'it replaces its model''s table, and so all rows written before';
COMMENT ON COLUMN batch_event.attempt IS 'from 1, over all runs of the plan';
COMMENT ON COLUMN batch_event.status IS 'outcome: ok, failed, skipped, cancelled';
COMMENT ON COLUMN batch_event.duration_seconds IS 'outcome: seconds';
COMMENT ON COLUMN batch_event.message IS 'outcome: the error';
COMMENT ON COLUMN batch_event.result IS 'outcome: the batch_result record, JSON';
