"""The overview as a person sees it: one screen, the sections in the order of urgency. It may change at any time."""

from datetime import datetime

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sluice.forecast import rate_spelled, spelled
from sluice.records import Overview, RunState, StaleModel

MOST_STALE = 10
STYLES = {"SUCCESS": "green", "FAILED": "bold red", "CANCELLED": "yellow", "RUNNING": "cyan"}


def drawn(overview: Overview, *, now: datetime) -> Group:
    """All sections; one that has nothing to tell says so, so that nobody wonders whether it was looked at."""
    return Group(
        *_section("at work", [_at_work(run) for run in overview.at_work], "nothing"),
        *_section("left unfinished", [_pending(run) for run in overview.pending], "nothing"),
        *_section("last", [_last(run, now) for run in overview.last], "no run has ended yet"),
        *_section("covered", _covered(overview), "not known"),
        *_section("stale", _stale(overview, now), overview.stale_unknown or "nothing of what was built here"),
    )


def _section(title: str, lines: list[RenderableType], otherwise: str) -> list[RenderableType]:
    return [Text(title, style="bold"), *(lines or [Text(f"  {otherwise}", style="dim")])]


def _at_work(run: RunState) -> RenderableType:
    told = [f"{run.done}/{run.total}"]
    told += [f"{run.failed} failed"] if run.failed else []
    told += [f"{rate_spelled(run.batches_per_s)}"] if run.batches_per_s else []
    told += [f"{_lasting(run.left_s)} left"] if run.left_s is not None else []
    grid = Table.grid(padding=(0, 1))
    grid.add_row("  ", ProgressBar(total=max(1, run.total), completed=run.done, width=30), Text("  ".join(told)))
    now = [Text(f"    now: {', '.join(run.now[:4])}", style="dim")] if run.now else []
    return Group(Text(f"  {_job(run)}  since {run.began_at[:16]}"), grid, *now)


def _pending(run: RunState) -> RenderableType:
    line = Text(f"  {_job(run)}  {run.done}/{run.total}  since {run.began_at[:16]}  ")
    line.append("cut off" if run.run_status == "RUNNING" else run.run_status, style=STYLES[run.run_status])
    return line.append(f"\n    go on: {run.resume}" if run.resume else "")


def _last(run: RunState, now: datetime) -> RenderableType:
    line = Text("  ").append(f"{run.run_status:9}", style=STYLES[run.run_status])
    line.append(f" {_job(run)}  {run.done}/{run.total}")
    line.append(f"  {_lasting(run.duration_s)}" if run.duration_s is not None else "", style="dim")
    line.append(f"  {_ago(run.ended_at, now)}" if run.ended_at else "", style="dim")
    return line.append(f"\n    sluice-state show {run.run_id}" if run.run_status == "FAILED" else "")


def _covered(overview: Overview) -> list[RenderableType]:
    """`312 of 340 cells; 3 failed, 25 never run`, by the records alone."""
    cells = sum(overview.coverage.values())
    rest = [f"{count} {status.replace('_', ' ')}" for status, count in overview.coverage.items() if status != "ok"]
    if not cells:
        return []
    line = Text(f"  {overview.coverage.get('ok', 0)} of {cells} cells")
    return [line.append(f"; {', '.join(rest)}\n    sluice-state coverage" if rest else "")]


def _stale(overview: Overview, now: datetime) -> list[RenderableType]:
    lines: list[RenderableType] = [Text(f"  {_why(model, now)}") for model in overview.stale[:MOST_STALE]]
    more = len(overview.stale) - MOST_STALE
    return lines + ([Text(f"  and {more} more", style="dim")] if more > 0 else [])


def _why(model: StaleModel, now: datetime) -> str:
    name = model.unique_id.rsplit(".", 1)[-1]
    if model.why == "code":
        return f"{name}: its code changed since its rows were made"
    return f"{name}: last built {_ago(model.last_at, now)}"


def _job(run: RunState) -> str:
    return f"{run.intent.replace('_', ' ')} of {run.project} on {run.target}"


def _lasting(seconds: float) -> str:
    """`0.4 s`, `1:05`, `2:03:09`"""
    return spelled(seconds).removeprefix("0:")


def _ago(at: str, now: datetime) -> str:
    try:
        seconds = max(0.0, (now - datetime.fromisoformat(at)).total_seconds())
    except (ValueError, TypeError):  # no time, or none with a zone: a record of somebody else's
        return at
    for unit, length_s in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length_s:
            return f"{seconds / length_s:.0f} {unit} ago"
    return "just now"
