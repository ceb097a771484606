"""The view for people: what a terminal shows instead of records. Scripts never see it; it may change at any time."""

import os
import sys
from datetime import timedelta
from itertools import groupby
from typing import Any

import msgspec
from rich.console import Console
from rich.control import Control
from rich.markup import escape
from rich.segment import ControlType
from rich.table import Table
from rich.text import Text

from sluice.log import one_line
from sluice.records import (
    Batch,
    BatchResult,
    CheckResult,
    Coverage,
    DailyRun,
    Decision,
    Error,
    Forecast,
    Gate,
    Impact,
    NotifyResult,
    Overview,
    Part,
    PartitionResult,
    Plan,
    PublishResult,
    Record,
    ReportResult,
    RunState,
    Savings,
    SetupCheck,
    Split,
    Summary,
    SyncResult,
    SyncState,
)

_STYLES = {"ok": "green", "failed": "bold red", "skipped": "yellow", "cancelled": "yellow", "dry_run": "cyan",
           "warn": "yellow", "fail": "bold red", "SUCCESS": "green", "FAILED": "bold red", "CANCELLED": "yellow", "RUNNING": "cyan"}  # fmt: skip

_CLEAR_LINE = Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2))


class Screen:
    """Takes records like a Writer and shows them; lines that were only to be passed on are for nobody here."""

    def __init__(self, fd: int):
        self._console = Console(file=os.fdopen(os.dup(fd), "w"), soft_wrap=True, highlight=False)
        self._model: str | None = None
        self.shows_all = False

    def write(self, record: Record) -> None:
        show = _VIEWS.get(type(record))
        if show is not None:
            record = _harmless(record)
            with self._console:  # written at once: in between a bar would be drawn again
                if sys.stderr.isatty():
                    self._console.control(_CLEAR_LINE)
                show(self, record)

    def copy(self, line: bytes) -> None:
        """Show what failed or was left out in the commands before; a progress bar tells of the rest, unless `shows_all`."""
        from sluice.pipe import decode, sniff
        from sluice.records import TYPES

        try:
            result = decode(line) if TYPES.get(sniff(line)) in _WORK else None
        except ValueError:  # it is for whoever consumes it to say so
            return
        if result is not None and (self.shows_all or getattr(result, "status", "ok") not in ("ok", "dry_run")):
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
        if (estimate := batch.estimate) is not None:
            line.append(f"  {estimate.p50_s:.1f} s, p90 {estimate.p90_s:.1f} s", style="dim")
        if batch.fit is not None:
            slices = f", stage in {batch.fit.slices}" if batch.fit.slices > 1 else ""
            line.append(f"  in parts: {batch.fit.window}{slices}", style="yellow")
        self._console.print(line)

    def impact(self, impact: Impact) -> None:
        line = Text("  " * min(max(impact.depth, 0), 40)).append(
            ".".join(impact.node.split(".")[2:] or [impact.node]), style="bold"
        )
        line.append(f"  {_EFFECTS[impact.effect]}", style="cyan" if impact.effect == "read" else "default")
        if impact.window is not None:
            line.append(f" {impact.window.start} to {impact.window.end - timedelta(days=1)}", style="not bold default")
        if impact.waves:
            waves = f"{impact.waves[0]}" + (f"-{impact.waves[-1]}" if len(impact.waves) > 1 else "")
            took = (
                f"{impact.p50_s:.1f} s, p90 {impact.p90_s:.1f} s"
                if None not in (impact.p50_s, impact.p90_s)
                else "unknown time"
            )
            line.append(f"  wave {waves}, {impact.batches} batches, {took}", style="dim")
        self._console.print(line)

    def forecast(self, forecast: Forecast) -> None:
        line = Text(f"forecast of {forecast.batches} batches: ")
        if forecast.p50_s is None or forecast.p90_s is None:
            line.append(f"unknown, {forecast.unknown} of them are like nothing that was ever measured")
        else:
            line.append(f"{forecast.p50_s:.1f} s, p90 {forecast.p90_s:.1f} s")
            line.append(
                f"; begun now it ends at {(forecast.p50_end_at or '')[:16]}, p90 {(forecast.p90_end_at or '')[:16]}"
            )
        line.append(f"; costs {forecast.cost:.2f}" if forecast.cost is not None else "")
        line.append(f"; {forecast.left_out} batches are left for another time" if forecast.left_out else "")
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
        line.append(f" {result.check} of {short_name(result.subject)}", style="default")
        if result.observed is not None:
            line.append(f"  {result.observed} against {result.threshold} {result.unit or ''}", style="default")
        line.append(f"\n    {result.error}" if result.error else "")
        self._console.print(line)

    def publish_result(self, result: PublishResult) -> None:
        line = Text(f"{result.status:9}", style=_STYLES[result.status])
        line.append(f" {result.action.replace('_', ' ')} {result.table}", style="default")
        if result.rows_after is not None:
            line.append(f"  rows {_shown(result.rows_before)} → {result.rows_after}")
        line.append(f"  {result.kept} until {result.kept_until}" if result.kept_until else "", style="dim")
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
        from sluice.forecast import spelled

        line = Text(f"{state.sync_status or '-':9}", style=_STYLES[_SYNC[state.sync_status or "partial"]])
        line.append(f" {state.source}  to {state.last_sync_ts or '-'} {state.last_txid or ''}  ", style="default")
        line.append(f"lag {spelled(state.lag_s)}  " if state.lag_s is not None else "")
        line.append(f"rows {state.inserted_rows}  runs {state.sync_count}, not well {state.failed_count}")
        line.append(f"  {spelled(state.mean_s)} each" if state.mean_s is not None else "", style="dim")
        line.append(
            f"  {state.saved_ratio:.0%} not fetched again" if state.saved_ratio is not None else "", style="dim"
        )
        line.append(f"  last {state.updated_at[:19]}", style="dim")
        line.append(f"\n    {state.message}" if state.message else "")
        self._console.print(line)

    def run_state(self, run: RunState) -> None:
        line = Text(f"{run.run_id}  {run.began_at[:19]}  ")
        was_left = run.run_status == "RUNNING" and not run.is_alive
        line.append(
            f"{'at work' if run.is_alive else 'left' if was_left else run.run_status:9}", style=_STYLES[run.run_status]
        )
        line.append(f"  {run.intent}  {run.project}/{run.target}  {run.done}/{run.total}")
        line.append(f"  {run.duration_s:.1f} s" if run.duration_s is not None else "", style="dim")
        line.append("  discarded" if run.is_discarded else "", style="dim")
        line.append(f"\n    go on: {run.resume}" if run.resume else "")
        self._console.print(line)

    def coverage(self, coverage: Coverage) -> None:
        """Months of one status, together."""
        counts = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in coverage.counts.items())
        line = Text(short_name(coverage.model), style="bold")
        line.append(f"  {coverage.stage}" if coverage.stage != "default" else "", style="not bold")
        line.append(
            f"  {counts}" + (f"; no rows counted: {coverage.uncounted}" if coverage.uncounted else ""), style="dim"
        )
        for status, cells in groupby(coverage.cells, key=lambda cell: cell.status):
            run = list(cells)
            months = [f"{cell.month:%Y-%m}" for cell in (run[0], run[-1]) if cell.month]
            line.append(f"\n  {' → '.join(dict.fromkeys(months)) or 'everything'}  ", style="not bold default")
            line.append(status.replace("_", " "), style=_CELLS[status])
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

    def overview(self, overview: Overview) -> None:
        from datetime import UTC, datetime

        from sluice.overview_screen import drawn

        self._console.print(drawn(overview, now=datetime.now(UTC)))

    def setup_check(self, check: SetupCheck) -> None:
        line = Text(f"{check.verdict:4}", style=_STYLES[check.verdict])
        line.append(f"  {check.check:14}", style="bold")
        line.append("\n                        ".join(check.found.split("\n")), style="default")
        line.append(f"\n        try: {check.next}" if check.next and check.verdict != "ok" else "", style="default")
        self._console.print(line)

    def report_result(self, result: ReportResult) -> None:
        line = Text(result.path, style="bold")
        line.append(
            f"  {result.size_bytes / 1e6:.1f} MB, {result.days} days: {result.runs} runs, {result.batches} batches",
            style="dim",
        )
        cells = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in result.cells.items() if count)
        line.append(f"\n  cells: {cells}" if cells else "")
        line.append(f"\n  nothing to show: {', '.join(result.empty)}" if result.empty else "", style="dim")
        self._console.print(line)

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


_EFFECTS = {"source": "is wrong", "months": "months again", "lookback": "looks back over", "whole": "rebuilt as a whole",
            "none": "a view, keeps no rows", "not_planned": "not planned: see to it", "read": "reads it"}  # fmt: skip
_CELLS = {
    "ok": "green",
    "never_run": "dim",
    "failed": "bold red",
    "empty": "yellow",
    "unrecorded": "cyan",
    "stale": "yellow",
}
_SYNC = {"success": "ok", "partial": "skipped", "failed": "failed"}
_WORK = (BatchResult, PartitionResult, CheckResult, PublishResult, SyncResult)
_VIEWS: dict[type[Record], Any] = {
    Decision: Screen.decision, Plan: Screen.plan, Impact: Screen.impact, Forecast: Screen.forecast, Batch: Screen.batch, Gate: Screen.gate, Split: Screen.split,
    BatchResult: Screen.batch_result, PartitionResult: Screen.partition_result, CheckResult: Screen.check_result, PublishResult: Screen.publish_result,
    SyncResult: Screen.sync_result, SyncState: Screen.sync_state, RunState: Screen.run_state, Coverage: Screen.coverage,
    DailyRun: Screen.daily_run, Savings: Screen.savings, Overview: Screen.overview, SetupCheck: Screen.setup_check,
    ReportResult: Screen.report_result, NotifyResult: Screen.notify_result, Summary: Screen.summary,
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
    """`2020-09`, or `2020-09 → 2020-11`: the first and the last month, which is in it; of a part of a month its first and last day."""
    from sluice.windows import window_vars

    if record.window is None:
        return "everything"
    given = window_vars(record.window)
    if "start_date" in given:
        return " → ".join(dict.fromkeys([given["start_date"], given["end_date"]]))
    return " → ".join(dict.fromkeys(given[name][:7] for name in ("start_month", "end_month")))
