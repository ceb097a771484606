"""The view for people: what a terminal shows instead of records. Scripts never see it; it may change at any time."""

import os
import sys
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from sluice.log import one_line
from sluice.records import (
    Batch,
    BatchResult,
    CheckResult,
    DailyRun,
    Decision,
    Error,
    Gate,
    NotifyResult,
    Part,
    PartitionResult,
    Plan,
    Record,
    RunState,
    Savings,
    Split,
    Summary,
    SyncResult,
    SyncState,
)

_STYLES = {"ok": "green", "failed": "bold red", "skipped": "yellow", "cancelled": "yellow", "dry_run": "cyan",
           "SUCCESS": "green", "FAILED": "bold red", "CANCELLED": "yellow", "RUNNING": "cyan"}  # fmt: skip


class Screen:
    """Takes records like a Writer and shows them; lines that were only to be passed on are for nobody here."""

    def __init__(self, fd: int):
        self._console = Console(file=os.fdopen(os.dup(fd), "w"), soft_wrap=True, highlight=False)
        self._model: str | None = None

    def write(self, record: Record) -> None:
        show = _VIEWS.get(type(record))
        if show is not None:
            record = _harmless(record)
            if sys.stderr.isatty():
                self._console.file.write("\r\x1b[2K")  # a progress bar may stand on this line
            show(self, record)
            self._console.file.flush()

    def copy(self, line: bytes) -> None:
        """Show what failed or was left out in the commands before; the progress bar tells of the rest."""
        from sluice.pipe import decode, sniff
        from sluice.records import TYPES

        try:
            result = decode(line) if TYPES.get(sniff(line)) in _WORK else None
        except ValueError:  # it is for whoever consumes it to say so
            return
        if result is not None and getattr(result, "status", "ok") not in ("ok", "dry_run"):
            self.write(result)

    def flush(self) -> None:
        self._console.file.flush()

    def decision(self, decision: Decision) -> None:
        self._console.print(Text(decision.reason, style=_STYLES["failed"] if decision.severity == "ERROR" else ""))

    def plan(self, plan: Plan) -> None:
        table = Table(box=None, pad_edge=False, title_justify="left", header_style="dim")
        for name in ("model", "mode", "stages", "batches"):
            table.add_column(name, justify="right" if name == "batches" else "left")
        for model in plan.models:
            stages = ", ".join(model.stages[:6]) + (
                f" and {len(model.stages) - 6} more" if len(model.stages) > 6 else ""
            )
            table.add_row(escape(short_name(model.unique_id)), model.mode, escape(stages) or "-", str(model.batches))
        head = Text(plan.intent.replace("_", " "), style="bold")
        head.append(f" of {plan.project} on {plan.target}, to {plan.to}: {plan.total} batches", style="not bold")
        self._console.print(head)
        if plan.gap is not None:
            months = ", ".join(map(str, plan.gap.months))
            self._console.print(
                f"gap from {plan.gap.first}: {plan.gap.days} d, buffer {plan.gap.buffer_days}, lookback {plan.gap.lookback_days}"
            )
            self._console.print(f"affected months: {months}")
        if plan.pending != plan.total:
            self._console.print(f"{plan.total - plan.pending} are done, {plan.pending} to go")
        self._console.print(table)

    def batch(self, batch: Batch) -> None:
        if batch.model != self._model:
            self._model = batch.model
            self._console.print(Text(short_name(batch.model or "selection"), style="bold"))
        stage = f"  {batch.stage}" if batch.stage != "default" else ""
        stage += f"  {batch.phase}, wave {batch.wave}" if batch.phase else ""
        refresh = "  --full-refresh" if batch.full_refresh else ""
        line = Text(f"  [{batch.seq}/{batch.total}] {months_of(batch)}{stage}{refresh}")
        if batch.fit is not None:
            slices = f", stage in {batch.fit.slices}" if batch.fit.slices > 1 else ""
            line.append(f"  in parts: {batch.fit.window}{slices}", style="yellow")
        self._console.print(line)

    def split(self, split: Split) -> None:
        line = Text(f"[{split.seq}/{split.total}] ")
        line.append("too big  " if split.error else "in parts ", style="yellow")
        line.append(f" {short_name(split.model or 'selection')}  {months_of(split)}")
        line.append(f"  {split.stage}" if split.stage != "default" else "")
        first = f", from {months_of(split.parts[0])} on" if split.parts else ""
        line.append(f"  → {len(split.parts)} parts{first}", style="dim")
        line.append(f"\n    {split.error}" if split.error else "", style="dim")
        self._console.print(line)

    def gate(self, gate: Gate) -> None:
        self._model = None
        self._console.print(Text(f"{gate.gate}, wave {gate.wave}: {gate.since} to {gate.to}", style="bold"))

    def batch_result(self, result: BatchResult) -> None:
        line = Text(f"[{result.seq}/{result.total}] ")
        line.append(f"{result.status:9}", style=_STYLES[result.status])
        line.append(f" {short_name(result.model or 'selection')}  {months_of(result)}")
        line.append(f"  {result.stage}" if result.stage != "default" else "")
        line.append(f"  {result.duration_s:.2f} s" if result.duration_s else "", style="dim")
        line.append(f"  in {result.in_parts} parts" if result.in_parts else "", style="dim")
        line.append("  (rows were there already)" if result.recovered else "", style="dim")
        line.append(f"\n    {result.error}" if result.error else "")
        self._console.print(line)

    def partition_result(self, result: PartitionResult) -> None:
        line = Text(f"{result.status:9}", style=_STYLES[result.status])
        line.append(
            f" {result.table} {result.partition or ''}  rows {result.rows_before} → {result.rows_after}",
            style="default",
        )
        line.append(f"  duplicates {result.duplicate_rows_before} → {result.duplicate_rows_after}")
        line.append(f"\n    {result.error}" if result.error else "")
        self._console.print(line)

    def check_result(self, result: CheckResult) -> None:
        line = Text(f"{result.status:9}", style=_STYLES[result.status])
        line.append(
            f" {result.check} of {short_name(result.subject)}  {result.observed} against {result.threshold} {result.unit or ''}"
        )
        line.append(f"\n    {result.error}" if result.error else "")
        self._console.print(line)

    def sync_result(self, result: SyncResult) -> None:
        line = Text(f"{result.status:9}", style=_STYLES[result.status])
        line.append(f" {result.source}: {result.stream}  received {result.received_rows}", style="default")
        for name in ("inserted", "updated", "unchanged", "rejected"):
            line.append(f"  {name} {count}" if (count := getattr(result, f"{name}_rows")) else "")
        line.append(f"  to {result.cursor_after}" if result.cursor_after else "", style="dim")
        line.append(f"\n    {result.error}" if result.error else "")
        self._console.print(line)

    def sync_state(self, state: SyncState) -> None:
        line = Text(f"{state.sync_status or '-':9}", style=_STYLES[_SYNC[state.sync_status or "partial"]])
        line.append(f" {state.source}  to {state.last_sync_ts or '-'} {state.last_txid or ''}  ", style="default")
        line.append(f"rows {state.inserted_rows}  runs {state.sync_count}, not well {state.failed_count}")
        line.append(f"\n    {state.message}" if state.message else "")
        self._console.print(line)

    def run_state(self, run: RunState) -> None:
        line = Text(f"{run.run_id}  {run.began_at[:19]}  ")
        line.append(f"{'at work' if run.is_alive else run.run_status:9}", style=_STYLES[run.run_status])
        line.append(f"  {run.intent}  {run.project}/{run.target}  {run.done}/{run.total}")
        line.append(f"  {run.duration_s:.1f} s" if run.duration_s is not None else "", style="dim")
        line.append("  discarded" if run.is_discarded else "", style="dim")
        line.append(f"\n    go on: {run.resume}" if run.resume else "")
        self._console.print(line)

    def daily_run(self, run: DailyRun) -> None:
        line = Text(f"{run.run_id}  {run.began_at[:19]}  ")
        line.append(f"{run.run_status:9}", style=_STYLES[run.run_status])
        line.append(
            f"  {f'retry {run.retry_sequence}' if run.run_type == 'retry' else 'full':7}  {run.project}/{run.target}"
        )
        line.append(f"  ran {_shown(run.models_run)} of {_shown(run.models_total)}, failed {_shown(run.models_failed)}")
        line.append(f"  {run.duration_s:.1f} s" if run.duration_s is not None else "", style="dim")
        line.append(f"  saved {run.saved_s:.1f} s" if run.run_type == "retry" else "", style="green")
        line.append(f"\n    {run.decision}" if run.decision else "", style="dim")
        self._console.print(line)

    def savings(self, savings: Savings) -> None:
        when = f"week of {savings.week}" if savings.week else "in all"
        self._console.print(
            f"{when}: {savings.full_runs} full, {savings.retries} retries, {savings.models_not_run} models not run again, "
            f"{savings.saved_s:.1f} s saved"
        )

    def notify_result(self, result: NotifyResult) -> None:
        style = _STYLES["failed"] if result.severity in ("ERROR", "CRITICAL") else ""
        if result.digest:
            self._console.print(Text("\n".join(result.digest), style=style))

    def summary(self, summary: Summary) -> None:
        counts = "   ".join(f"{status} {count}" for status, count in summary.counts.items())
        self._console.print(
            Text(
                f"{summary.command}: {counts or 'done'}   {summary.duration_s:.1f} s   exit {summary.exit_code}",
                style="dim",
            )
        )

    def error(self, error: Error) -> None:
        """Shown on stderr already."""


_SYNC = {"success": "ok", "partial": "skipped", "failed": "failed"}
_WORK = (BatchResult, PartitionResult, CheckResult, SyncResult)
_VIEWS: dict[type[Record], Any] = {
    Decision: Screen.decision, Plan: Screen.plan, Batch: Screen.batch, Gate: Screen.gate, Split: Screen.split,
    BatchResult: Screen.batch_result, PartitionResult: Screen.partition_result, CheckResult: Screen.check_result,
    SyncResult: Screen.sync_result, SyncState: Screen.sync_state, RunState: Screen.run_state,
    DailyRun: Screen.daily_run, Savings: Screen.savings, NotifyResult: Screen.notify_result, Summary: Screen.summary,
    Error: Screen.error,
}  # fmt: skip


def _harmless(record: Record) -> Record:
    """The record with control characters made visible: what dbt or a name says must not steer the terminal."""

    def visible(value: Any) -> Any:
        if isinstance(value, str):
            return "\n".join(map(one_line, value.split("\n")))
        if isinstance(value, dict):
            return {visible(key): visible(inner) for key, inner in value.items()}
        return [visible(inner) for inner in value] if isinstance(value, list) else value

    return msgspec.convert(visible(msgspec.to_builtins(record)), type(record))


def _shown(number: int | None) -> str:
    return "?" if number is None else str(number)


def short_name(unique_id: str) -> str:
    return unique_id.rsplit(".", 1)[-1]


def months_of(record: Batch | BatchResult | Split | Part) -> str:
    """`2020-09-01 → 2020-10-01`: the first days of the first and last month, as the models get them; of a part of a month
    its first and last day.
    """
    from sluice.windows import window_vars

    if record.window is None:
        return "everything"
    given = window_vars(record.window)
    return " → ".join([given.get("start_date", given["start_month"]), given.get("end_date", given["end_month"])])
