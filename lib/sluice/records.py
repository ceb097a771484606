"""The records: every type of line that Sluice's commands exchange, in the order in which they flow.

One JSON object a line. Each carries `type`, `v` (schema version of the type), `run_id` (UUIDv7, set by the first
command of a pipe and copied on) and `at` (RFC 3339, UTC, milliseconds). Suffixes carry units: `_at` timestamp,
`_s` seconds, `_bytes`, `_rows`, `_ratio`, `_id`, `_path`. Windows are half-open ranges of days.

docs/records.md and docs/records.schema.json are generated from this module: run `make docs` after a change.
"""

from datetime import date
from typing import Annotated, ClassVar, Literal

import msgspec

Status = Literal["ok", "failed", "skipped", "cancelled", "dry_run"]
Reason = Literal["full_refresh", "stage", "gap", "retry", "refill", "daily", "forced", "adopted"]
Mode = Literal["replace", "append", "whole"]
RunStatus = Literal["RUNNING", "SUCCESS", "FAILED", "CANCELLED"]
SyncStatus = Literal["success", "partial", "failed"]
Verdict = Literal["ok", "warn", "fail"]
Severity = Literal["INFO", "WARNING", "ERROR", "CRITICAL"]
WindowUnit = Literal["planned", "month", "week", "day"]
Scalar = str | int | float | bool | None
Vars = dict[str, Scalar | list[Scalar]]
# Files and statements are named after runs: an id is no path, and nothing that could be quoted wrongly.
RunId = Annotated[str, msgspec.Meta(pattern="^([A-Za-z0-9][A-Za-z0-9_.-]{0,63})?(?!\n)$")]


class Record(msgspec.Struct, kw_only=True, tag_field="type"):
    """The envelope. `at` and `run_id` are filled in when the record is written."""

    VERSION: ClassVar[int] = 1

    v: int = 1
    run_id: RunId = ""
    at: str = ""


class Window(msgspec.Struct, frozen=True):
    """A half-open range of days: `start` is in, `end` is not."""

    start: date
    end: date


class Fit(msgspec.Struct, frozen=True):
    """How small the pieces of a model's stage have to be: windows of at most this unit, the stage in so many slices."""

    window: WindowUnit = "planned"
    slices: int = 1


class Ways(msgspec.Struct, frozen=True):
    """How a batch may be cut when it is too big: the shortest window that its model can write without harm to what is
    beside it, and the vars by which its stage may be cut, `symbol` for a list, `index` for index_start to index_end.

    `but` says what is in the way of going further, and what to do about it.
    """

    window: WindowUnit = "planned"
    slices: list[str] = []
    but: str = ""


class Part(msgspec.Struct, kw_only=True):
    """A part of a batch that was too big. `vars` are those that differ from the batch's; `slices` as in Fit."""

    batch_id: str
    window: Window
    vars: Vars
    slices: int = 1


class PlannedModel(msgspec.Struct, kw_only=True):
    """One model of a plan. `checksum` covers its code, the macros it calls and its configuration.

    Where it is kept, `database_name` and `schema_name`, and how, `materialization`, go into the log of models.
    `added_stages` are those of its `stages` that nobody declared: its source has outgrown the others. A model that is
    built aside has the name of what is built, `aside_name`, and of what it will replace, `table_name`.
    """

    unique_id: str
    mode: Mode
    batches: int
    stages: list[str]
    checksum: str
    database_name: str | None = None
    schema_name: str | None = None
    materialization: str | None = None
    added_stages: list[str] = msgspec.field(default_factory=list)
    table_name: str | None = None
    aside_name: str | None = None


class PlannedGap(msgspec.Struct, kw_only=True):
    """What a refill repairs: `first` is the first wrong day, `months` the first days of the months that are touched.

    Cumulative models go on to the month of `planned_on`, also when the refill is resumed in a later one.
    """

    first: date
    days: int
    buffer_days: int
    lookback_days: int
    months: list[date]
    planned_on: date


class Publication(msgspec.Struct, kw_only=True):
    """That what a plan has built aside was begun to be published, or, `undone`, to be taken back.

    For `keep_s` seconds after the run's end what was there before is kept. Where tables cannot be exchanged in one
    transaction, `live_ids` and `coming_ids` are the warehouse's own ids of what was there and what comes, by unique_id.
    """

    keep_s: float
    undone: bool = False
    live_ids: dict[str, str] = msgspec.field(default_factory=dict)
    coming_ids: dict[str, str] = msgspec.field(default_factory=dict)


class Decision(Record, kw_only=True, tag="decision"):
    """What the daily refresh is to do, and why, in words. `action` is none when a retry would be in vain.

    `models` of `total` will run, in about `estimate_s` seconds instead of the `full_s` of all (null: nothing is known of
    that). A retry is number `retry` of the failure of run `retry_of`, in which `failed` failed; `hopeless` are those that
    would fail again, because of errors that only a change to their code can cure. `severity` is ERROR when the
    history could not be read.
    """

    action: Literal["full", "retry", "none"]
    reason: str
    severity: Severity = "INFO"
    models: int = 0
    total: int = 0
    retry: int = 0
    retry_of: str | None = None
    failed: list[str] = msgspec.field(default_factory=list)
    hopeless: list[str] = msgspec.field(default_factory=list)
    estimate_s: float | None = None
    full_s: float | None = None
    saved_s: float | None = None


class Plan(Record, kw_only=True, tag="plan"):
    """The head of a plan: what is intended, fixed once. `plan_id` is a hash of what the plan would do.

    `to` is the last day that the plan covers, `request` what was asked for (enough to plan the same again), `total` the
    batches of the whole plan and `pending` those that follow here. A plan that is resumed names the run that first
    began it (`root_run_id`) and, when its meaning has moved since, what it was then (`drift_from`). A plan that retries a
    failed run names the run in which it first failed (`retry_of`) and the measured seconds of the models that need not run
    again (`saved_s`); `models_total` is how many a full build would run. `decision` says in words why the plan is what it is.
    With `continue_on_error` the runner goes on after a failure. A plan whose models have an `aside_name` is finished when it is
    published; `publication` is there once that was begun.
    """

    plan_id: str
    intent: Reason
    project: str
    target: str
    adapter: str
    to: date
    total: int
    pending: int
    models: list[PlannedModel]
    request: dict[str, Scalar | list[Scalar]]
    root_run_id: RunId | None = None
    attempt: int = 1
    drift_from: str | None = None
    delay_s: float = 0.0
    dry_run: bool = False
    gap: PlannedGap | None = None
    retry_of: str | None = None
    decision: str | None = None
    models_total: int | None = None
    saved_s: float | None = None
    continue_on_error: bool = False
    publication: Publication | None = None


class Estimate(msgspec.Struct, kw_only=True):
    """Seconds that a batch will take, by `samples` measurements: half of the time up to `p50_s`, nine times in ten up to `p90_s`.

    `basis` says what was measured: this very cell, by its source's rows where they were counted then and now; the model, by its source's
    rows or by months; all models, by theirs; or all views.
    """

    p50_s: float
    p90_s: float
    basis: str
    samples: int


class Batch(Record, kw_only=True, tag="batch"):
    """One dbt invocation with its exact arguments.

    `batch_id` is a hash of project, target, model, stage, window, vars and mode. `expect` are the dbt unique_ids that
    must be in the result; `depends_on` the planned models on which they depend, however far away. Batches of one
    `wave` may run before the next barrier. `repeatable`: to run it twice does no harm, what follows removes duplicates.
    `estimate` is null where none was asked for, and where nothing like it was ever measured; `source_rows` are what it reads,
    counted for the estimate, null where they were not.
    `ways` are those in which it may be cut when it is too big, `fit` what was learned from earlier ones that were:
    it runs in parts of this size from the start. `part_of` is the batch that a part belongs to; parts are in no plan.
    """

    batch_id: str
    plan_id: str
    seq: int
    total: int
    wave: int = 1
    reason: Reason
    model: str | None = None
    stage: str = "default"
    window: Window | None = None
    phase: str | None = None
    repeatable: bool = False
    vars: Vars = msgspec.field(default_factory=dict)
    full_refresh: bool = False
    select: list[str]
    exclude: list[str] = msgspec.field(default_factory=list)
    expect: list[str]
    depends_on: list[str] = msgspec.field(default_factory=list)
    estimate: Estimate | None = None
    source_rows: int | None = None
    ways: Ways | None = None
    fit: Fit | None = None
    part_of: str | None = None


class Forecast(Record, kw_only=True, tag="forecast"):
    """How long the batches of a plan will take one after the other, and when they end if they begin now.

    All are null when one of them, `unknown` of `batches`, is like nothing that was ever measured; `p90_s` is as if all
    were slow at once. `bases` counts batches by what their estimates rest on. `left_out` are those that --trim left for
    another time. `cost` is that of the median, at SLUICE_COST_PER_HOUR.
    """

    plan_id: str
    batches: int
    unknown: int
    bases: dict[str, int]
    p50_s: float | None = None
    p90_s: float | None = None
    p50_end_at: str | None = None
    p90_end_at: str | None = None
    cost: float | None = None
    left_out: int = 0


Effect = Literal["source", "months", "lookback", "whole", "none", "not_planned", "read"]


class Impact(Record, kw_only=True, tag="impact"):
    """What a refill of a source would do to one of the nodes below it; in the order of a tree, `depth` steps below.

    `effect`: months are written again one by one, in `window`; lookback: one run that looks back over `window`; whole: the
    table is rebuilt; none: a view, which keeps no rows; not_planned: a snapshot, or what was skipped; read: an exposure. `through` are its direct
    parents that are hit, too. Seconds of its `batches` together are null where nothing like one of them was measured.
    """

    node: str
    depth: int
    effect: Effect
    window: Window | None
    through: list[str]
    batches: int = 0
    waves: list[int] = msgspec.field(default_factory=list)
    p50_s: float | None = None
    p90_s: float | None = None


class Node(msgspec.Struct, kw_only=True):
    """What became of one dbt node. `rows` are the rows that the adapter says it wrote, null where it does not say."""

    unique_id: str
    status: Status
    duration_s: float
    rows: int | None = None
    message: str | None = None


class Gate(Record, kw_only=True, tag="gate"):
    """A check that decides whether the flow goes on, in its place between the waves.

    `gate` names it (canary), `models` are the unique_ids to look at, `since` and `to` the first and last day.
    """

    plan_id: str
    wave: int
    gate: str
    models: list[str]
    since: date
    to: date


class BatchResult(Record, kw_only=True, tag="batch_result"):
    """What became of one batch. It is in the state store before it is on stdout.

    `recovered` is true when an earlier attempt had committed the rows and only its outcome was lost. `notes` are what its
    models had to say to people, with the macro sluice.note. `estimate` and `source_rows` are those of the batch: the forecast
    can be judged, and the next one knows of how many rows this time was.
    `in_parts` is how
    many parts it was carried out in; 0: whole. In the state store alone are `parts`, into which it was cut then, and the
    results of the parts, which name their batch: `part_of`.
    """

    batch_id: str
    plan_id: str
    seq: int
    total: int
    wave: int = 1
    model: str | None = None
    stage: str = "default"
    window: Window | None = None
    status: Status
    attempt: int = 0
    began_at: str | None = None
    ended_at: str | None = None
    duration_s: float = 0.0
    nodes: list[Node] = msgspec.field(default_factory=list)
    notes: list[str] = msgspec.field(default_factory=list)
    log_path: str | None = None
    recovered: bool = False
    estimate: Estimate | None = None
    source_rows: int | None = None
    in_parts: int = 0
    part_of: str | None = None
    parts: list[Part] = msgspec.field(default_factory=list)
    error: str | None = None


class Split(Record, kw_only=True, tag="split"):
    """A batch, or a part of one, is carried out in parts: it was too big (`error`), or those before it were (null)."""

    batch_id: str
    plan_id: str
    seq: int
    total: int
    model: str | None = None
    stage: str = "default"
    window: Window | None = None
    parts: list[Part]
    error: str | None = None


class PartitionResult(Record, kw_only=True, tag="partition_result"):
    """What became of one partition whose rows a batch touched, or that had too many parts.

    `partition` is ClickHouse's partition id, null where the table as a whole is meant. `duplicate_rows` are those beyond
    one for each key. What a dialect does not know, or a rehearsal cannot, is null.
    """

    table: str
    partition: str | None
    model: str | None = None
    status: Status
    rows_before: int | None = None
    rows_after: int | None = None
    duplicate_rows_before: int | None = None
    duplicate_rows_after: int | None = None
    parts_before: int | None = None
    parts_after: int | None = None
    bytes_before: int | None = None
    bytes_after: int | None = None
    duration_s: float = 0.0
    error: str | None = None


class CheckResult(Record, kw_only=True, tag="check_result"):
    """What one check found in one model. `status` is failed when it is red, whatever its severity.

    `check` is its kind, with its name behind a colon where it has one; `subject` the unique_id it is about, or the gate when no
    check could be asked. `observed`, `threshold` and `unit` belong together; `sample` are at most five of the
    violating rows. NaN and the infinities are texts.
    """

    check: str
    severity: Severity
    subject: str
    status: Status
    observed: Scalar = None
    threshold: Scalar = None
    unit: str | None = None
    violation_rows: int | None = None
    sample: list[dict[str, Scalar]] = msgspec.field(default_factory=list)
    duration_s: float = 0.0
    error: str | None = None


class PublishResult(Record, kw_only=True, tag="publish_result"):
    """What became of one relation that was to be published, taken back (undo) or, when its time was over, dropped (clean_up).

    `rows_before` are those of what was there, `rows_after` of what is there now; null for a view. `kept` is where what was there
    before is kept until `kept_until`.
    """

    action: Literal["publish", "undo", "clean_up"]
    table: str
    model: str | None = None
    status: Status
    rows_before: int | None = None
    rows_after: int | None = None
    kept: str | None = None
    kept_until: str | None = None
    duration_s: float = 0.0
    error: str | None = None


class SyncResult(Record, kw_only=True, tag="sync_result"):
    """What one run brought of one stream. Cursors are the newest bookmark and its key, as far as a STATE covers them.

    `unchanged_rows` were there like this, or a later record of the batch has their key. `sync_status` is partial when
    records came after the last STATE or some broke their schema; then, too, what came is there.
    """

    source: str
    stream: str
    sync_status: SyncStatus
    status: Status
    cursor_before: str | None = None
    cursor_after: str | None = None
    received_rows: int = 0
    inserted_rows: int | None = None
    updated_rows: int | None = None
    unchanged_rows: int | None = None
    rejected_rows: int = 0
    duration_s: float = 0.0
    error: str | None = None


class SyncState(Record, kw_only=True, tag="sync_state"):
    """One source as its target database knows it: a row of sync_log, with figures over all of its runs.

    `lag_s` is the age of the newest bookmark. `mean_s` is of the runs that ended. `saved_ratio` is the share of rows that
    a run, on average, did not have to fetch, of those that were there already.
    """

    source: str
    sync_status: SyncStatus | None
    last_sync_ts: str | None
    last_txid: str | None
    updated_at: str
    sync_count: int
    failed_count: int
    lag_s: float | None
    received_rows: int
    inserted_rows: int
    updated_rows: int
    rejected_rows: int
    mean_s: float | None
    saved_ratio: float | None
    message: str | None = None


class RunState(Record, kw_only=True, tag="run_state"):
    """One run as the state store knows it. `status` as in run_log; `is_alive`: a process is at work on it now.

    `resume` is the command that goes on with it, null when there is nothing to go on with. In an overview, of a run at
    work: the `failed` batches, those that run `now`, and by the pace so far `batches_per_s` and `left_s`.
    """

    intent: Reason
    project: str
    target: str
    run_status: RunStatus
    is_alive: bool
    is_discarded: bool
    attempt: int
    began_at: str
    ended_at: str | None
    duration_s: float | None
    done: int
    total: int
    models: list[str]
    resume: str | None = None
    failed: int | None = None
    now: list[str] = msgspec.field(default_factory=list)
    batches_per_s: float | None = None
    left_s: float | None = None


class StaleModel(msgspec.Struct, kw_only=True):
    """A model whose rows are old: its code changed since they were made, or it did not succeed since `last_at`."""

    unique_id: str
    why: Literal["code", "age"]
    last_at: str


class CoveredCell(msgspec.Struct, kw_only=True):
    """What is there of one month (its first day; null: of a model that is built as a whole), see docs/report.md.

    `rows` are null where they were not counted. `recorded_run_id` and `recorded_at` are of the latest record that counts.
    """

    month: date | None
    status: Literal["ok", "never_run", "failed", "empty", "unrecorded", "stale"]
    code_changed: bool = False
    rows: int | None = None
    recorded_run_id: str | None = None
    recorded_at: str | None = None


class Coverage(Record, kw_only=True, tag="coverage"):
    """What should be there of one stage of a model, month by month, and what is. `counts` are its cells by status.

    `uncounted` says why no rows were counted, null when they were.
    """

    model: str
    stage: str
    counts: dict[str, int]
    cells: list[CoveredCell]
    uncounted: str | None = None


class Overview(Record, kw_only=True, tag="overview"):
    """The present on one screen: what is at work, what was left unfinished, how the latest of each job ended, what is stale.

    `last` has one run for each project, target and intent, retries counted as daily, newest first. `stale_unknown` says
    why nobody knows what is stale, null when it is known. `coverage` counts cells by what the records say of them, no rows;
    it is empty where the project cannot be read.
    """

    at_work: list[RunState] = msgspec.field(default_factory=list)
    pending: list[RunState] = msgspec.field(default_factory=list)
    last: list[RunState] = msgspec.field(default_factory=list)
    last_success_at: str | None = None
    stale: list[StaleModel] = msgspec.field(default_factory=list)
    stale_unknown: str | None = None
    coverage: dict[str, int] = msgspec.field(default_factory=dict)


class SetupCheck(Record, kw_only=True, tag="setup_check"):
    """One line of sluice-doctor: what was looked at, what was `found`, and the `next` command to type.

    `warn` is what one should know and nothing stops at, or what could not be looked at.
    """

    check: str
    verdict: Verdict
    found: str
    next: str | None = None
    duration_s: float = 0.0


class DailyRun(Record, kw_only=True, tag="daily_run"):
    """One run of the daily refresh, as the history tells it: a full build, or a retry of the run `retry_of`.

    `saved_s` are the last measured durations of the models that a retry did not run again. `decision` is why it was so.
    """

    project: str
    target: str
    run_type: Literal["full", "retry"]
    run_status: RunStatus
    began_at: str
    duration_s: float | None
    retry_sequence: int
    retry_of: str | None
    models_run: int | None
    models_failed: int | None
    models_total: int | None
    saved_s: float
    decision: str | None


class Savings(Record, kw_only=True, tag="savings"):
    """What retries saved in a week, which begins on its Monday (UTC); `week` null: in all weeks."""

    week: date | None
    full_runs: int
    retries: int
    models_not_run: int
    saved_s: float


class ReportResult(Record, kw_only=True, tag="report_result"):
    """A report that was written. `cells` are those of its coverage by what they are; `empty` the figures without data.

    `runs` and `batches` are those that its figures look at, of the last `days` days.
    """

    path: str
    size_bytes: int
    days: int
    runs: int
    batches: int
    cells: dict[str, int]
    empty: list[str]
    status: Status


class NotifyResult(Record, kw_only=True, tag="notify_result"):
    """What became of the digest on one channel. `status` is skipped when the severity is below the threshold.

    `digest` are its lines, as people read them.
    """

    channel: str
    severity: Severity
    dedupe_key: str
    digest: list[str]
    status: Status
    error: str | None = None


class Error(Record, kw_only=True, tag="error"):
    """Why a command stopped. `code` is `area_problem`; `line` the line of standard input, counted from 1."""

    code: str
    message: str
    hint: str | None = None
    line: int | None = None
    retryable: bool = False


class Summary(Record, kw_only=True, tag="summary"):
    """The last record of every command: its own work counted by status. A stream without one was cut off."""

    command: str
    counts: dict[Status, int] = msgspec.field(default_factory=dict)
    duration_s: float = 0.0
    exit_code: int = 0


TYPES: dict[str, type[Record]] = {
    str(t.__struct_config__.tag): t
    for t in (
        Decision,
        Plan,
        Impact,
        Forecast,
        Batch,
        Gate,
        Split,
        BatchResult,
        PartitionResult,
        CheckResult,
        PublishResult,
        SyncResult,
        SyncState,
        RunState,
        Coverage,
        Overview,
        SetupCheck,
        ReportResult,
        NotifyResult,
        Error,
        Summary,
    )
}
