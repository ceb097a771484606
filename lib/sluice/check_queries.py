"""A check as one query, and its answer judged: the warehouse counts, and only what is proved good is good.

The queries stand in sql/checks/: `$value` is bound, `{name}` is a quoted name or an expression of the model's own,
`{function name}` the dialect's word for it.
"""

import math
import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from sluice.checks import Canary, Declared, Freshness, NoDuplicate, NoGap, NullRatio, RowCount, SqlFile
from sluice.config import ROOT
from sluice.errors import SluiceError, refused
from sluice.manifest import Node
from sluice.records import Scalar
from sluice.warehouse import Warehouse

CHECKS = Path(__file__).resolve().parents[2] / "sql" / "checks"
MOST_SAMPLES = 5
AHEAD_S = 600  # clocks differ; what lies further ahead of ours is wrong
NO_BASELINE = "no baseline"

_SLOT = re.compile(r"\{(\w+)(?: (\w+))?\}")
_COMMENT_LINE = re.compile(r"^\s*--.*\n", re.MULTILINE)

FUNCTIONS = {
    "duckdb": {
        "double": "cast(({}) as double)",
        "day": "cast({} as date)",
        "is_nan": "isnan({})",
        "is_infinite": "isinf({})",
        "epoch": "epoch({})",
        "random": "random()",
    },
    "postgres": {
        "double": "cast(({}) as double precision)",
        "day": "cast({} as date)",
        "is_nan": "{} = double precision 'NaN'",
        "is_infinite": "{} in (double precision 'Infinity', double precision '-Infinity')",
        "epoch": "extract(epoch from cast({} as timestamp with time zone))",
        "random": "random()",
    },
    "clickhouse": {
        "double": "cast(({}) as Nullable(Float64))",  # whatever is missing stays NULL and does not become 0
        "day": "toDate({})",
        "is_nan": "isNaN({})",
        "is_infinite": "isInfinite({})",
        "epoch": "toUnixTimestamp64Milli(toDateTime64({}, 3, 'UTC')) / 1000",
        "random": "rand()",
    },
}


@dataclass(frozen=True)
class Scan:
    """The days to look at, first and last; when it is now; whether a first run may lack what it would be compared with.

    `began` is the start of the run whose rows are checked, UTC; None: nobody knows, a day ago then.
    """

    since: date
    to: date
    now: datetime
    first_run: bool = False
    project_dir: Path = ROOT
    began: datetime | None = None

    @property
    def loaded_since(self) -> datetime:
        """When the rows of the run were loaded at the earliest, UTC without a zone, as timestamps are."""
        return (self.began or self.now - timedelta(days=1)).astimezone(UTC).replace(tzinfo=None)

    def last_day(self, lag_days: int) -> date:
        """The last day that must be there."""
        return min(self.to, self.now.astimezone(UTC).date() - timedelta(days=lag_days))


@dataclass(frozen=True)
class Verdict:
    """What a check found. `error` says in words why it is red; None when it is green."""

    error: str | None
    observed: Scalar = None
    threshold: Scalar = None
    unit: str | None = None
    violation_rows: int | None = None
    sample: list[dict[str, Scalar]] = field(default_factory=list)


def ask(warehouse: Warehouse, declared: Declared, scan: Scan) -> Verdict:
    """Ask the warehouse one check. Raises WarehouseError when it has no answer, SluiceError (2) for a name that cannot be."""
    check = declared.check
    if isinstance(check, Canary):
        return (
            _recompute(warehouse, declared, check, scan)
            if declared.source
            else _canary(warehouse, declared, check, scan)
        )
    if isinstance(check, NoGap):
        return _no_gap(warehouse, declared, check, scan)
    if isinstance(check, RowCount):
        return _row_count(warehouse, declared, check, scan)
    if isinstance(check, Freshness):
        return _freshness(warehouse, declared, check, scan)
    if isinstance(check, NoDuplicate):
        return _no_duplicate(warehouse, declared, check, scan)
    if isinstance(check, NullRatio):
        return _null_ratio(warehouse, declared, check, scan)
    assert isinstance(check, SqlFile)
    return _sql_file(warehouse, declared, check, scan)


# -- Days of entities: canary, recompute, no_gap -----------------------------------------------------------


def _canary(warehouse: Warehouse, declared: Declared, check: Canary, scan: Scan) -> Verdict:
    names = {
        **_entities(warehouse, check.by),
        "relation": relation(warehouse, declared.node),
        "date": warehouse.quote(check.date_column),
        "metric": check.metric,
        "aggregate": check.aggregate,
        "where": _where(check.where),
    }
    rows = _rows(warehouse, "canary", names, {
        **_days(scan), "last": scan.last_day(check.lag_days), "min_ratio": check.min_ratio, "max_ratio": check.max_ratio,
    })  # fmt: skip
    accepted = {NO_BASELINE} if check.new_entities or scan.first_run else set()
    answer = _Days(rows, check.by, accepted, "before")
    worst = answer.worst_ratio
    is_high = worst is None or worst >= 1
    return answer.verdict(
        observed=worst,
        threshold=check.max_ratio if is_high else check.min_ratio,
        unit="ratio",
        bounds=f"allowed {check.min_ratio:.4g} to {check.max_ratio:.4g}",
        scan=scan,
    )


def _recompute(warehouse: Warehouse, declared: Declared, check: Canary, scan: Scan) -> Verdict:
    again, source = check.recompute, declared.source
    assert again is not None
    assert source is not None
    by = check.by if again.by is None else again.by
    keys = [f"entity_{i}" for i in range(max(len(by), 1))]
    source_date = warehouse.quote(again.date_column or check.date_column)
    names = {
        **_entities(warehouse, check.by),
        "relation": relation(warehouse, declared.node),
        "date": warehouse.quote(check.date_column),
        "metric": check.metric,
        "aggregate": check.aggregate,
        "where": _where(check.where),
        "source_entities": _entities(warehouse, by)["entities"],
        "source_relation": relation(warehouse, source),
        "source_date": source_date,
        "source_metric": again.metric,
        "source_aggregate": again.aggregate or check.aggregate,
        "source_where": _where(again.where or check.where),
        "source_since": "" if again.cumulative else f"{source_date} >= $since and ",
        "sampled_keys": ", ".join(f"s.{key} as {key}" for key in keys),
        "grouped_keys": ", ".join(f"s.{key}" for key in keys),
        "from_source": " and ".join(f"s.{key} = t.{key}" for key in keys)
        + ("" if again.cumulative else " and s.sluice_day = t.sluice_day"),
        "is_at": "<=" if again.cumulative else "=",
    }
    rows = _rows(warehouse, "recompute", names, {**_days(scan), "pairs": again.pairs, "tolerance": again.tolerance})
    answer = _Days(rows, check.by, set(), "recomputed")
    return answer.verdict(
        observed=answer.worst_ratio,
        threshold=again.tolerance,
        unit="ratio",
        bounds=f"from {source.name}, tolerance {again.tolerance:g}",
        scan=scan,
    )


def _no_gap(warehouse: Warehouse, declared: Declared, check: NoGap, scan: Scan) -> Verdict:
    names = {
        **_entities(warehouse, check.by),
        "relation": relation(warehouse, declared.node),
        "date": warehouse.quote(check.date_column),
        "where": _where(check.where),
    }
    rows = _rows(warehouse, "no_gap", names, {**_days(scan), "last": scan.last_day(check.lag_days)})
    accepted = {NO_BASELINE} if check.new_entities or scan.first_run else set()
    answer = _Days(rows, check.by, accepted, "allowed")
    bad = answer.violations
    return answer.verdict(observed=bad, threshold=0, unit="gaps", bounds="a row on each day", scan=scan)


class _Days:
    """The answer of a query about entities and days; its columns are those of canary.sql. `accepted` reasons are no violations."""

    def __init__(self, rows: list[tuple], by: list[str], accepted: set[str], other: str):
        self._by, self._other = by, other
        self._rows = [(row[: max(len(by), 1)], *row[max(len(by), 1) :]) for row in rows]
        self.counts = {row[2]: int(row[6]) for row in self._rows}
        self.reasons = {reason: count for reason, count in self.counts.items() if reason not in ("", *accepted)}

    @property
    def violations(self) -> int:
        return sum(self.reasons.values())

    @property
    def worst_ratio(self) -> float | None:
        """The ratio furthest from 1, violations first; None when nothing could be compared."""
        for is_bad in (True, False):
            ratios = [float(row[5]) for row in self._rows if row[5] is not None and (row[2] in self.reasons) is is_bad]
            known = [ratio for ratio in ratios if math.isfinite(ratio) and ratio > 0]
            if known:
                return max(known, key=lambda ratio: max(ratio, 1 / ratio))
        return None

    def verdict(self, *, observed: Scalar, threshold: Scalar, unit: str, bounds: str, scan: Scan) -> Verdict:
        if not self._rows:
            return Verdict(f"empty: no row from {scan.since} to {scan.to}", None, threshold, unit, 0)
        bad = [row for row in self._rows if row[2] in self.reasons]
        if not bad:
            return Verdict(None, observed, threshold, unit, 0)
        listed = ", ".join(f"{count} × {reason}" for reason, count in sorted(self.reasons.items()))
        error = f"{listed}, of {sum(self.counts.values())} days of entities ({bounds}); such as {self._told(bad[0])}"
        return Verdict(
            error, observed, threshold, unit, self.violations, [self._shown(row) for row in bad[:MOST_SAMPLES]]
        )

    def _told(self, row: tuple) -> str:
        entity, day, reason, value, other, ratio, *_ = row
        whom = "".join(f"{name} {scalar(part)}, " for name, part in zip(self._by, entity, strict=False))
        numbers = (
            f", {scalar(value)} against {scalar(other)} {self._other} (ratio {float(ratio):.4g})"
            if ratio is not None
            else ""
        )
        return f"{whom}{reason} at {day}{numbers}"

    def _shown(self, row: tuple) -> dict[str, Scalar]:
        entity, day, reason, value, other, ratio, *_ = row
        shown = {name: scalar(part) for name, part in zip(self._by, entity, strict=False)}
        return {
            **shown,
            "day": scalar(day),
            "reason": reason,
            "value": scalar(value),
            self._other: scalar(other),
            "ratio": scalar(ratio),
        }


# -- Tables: row_count, freshness, no_duplicate, null_ratio, sql --------------------------------------------


def _row_count(warehouse: Warehouse, declared: Declared, check: RowCount, scan: Scan) -> Verdict:
    [(rows,)] = _rows(warehouse, "row_count", _scope(warehouse, declared, check.date_column, check.where), _days(scan))
    if rows < check.min:
        return Verdict(
            "empty: no rows" if not rows else f"{rows} rows, at least {check.min} wanted", rows, check.min, "rows", 0
        )
    if check.max is not None and rows > check.max:
        return Verdict(f"{rows} rows, at most {check.max} allowed", rows, check.max, "rows", rows - check.max)
    return Verdict(None, rows, check.min, "rows", 0)


def _freshness(warehouse: Warehouse, declared: Declared, check: Freshness, scan: Scan) -> Verdict:
    column = warehouse.quote(check.date_column)
    names = {
        **_scope(warehouse, declared, None, check.where),
        "date": column,
        "newest": f"max({column})",
        "where": _where(check.where),
    }
    [(rows, with_time, newest)] = _rows(warehouse, "freshness", names, {})
    limit = check.max_age_hours
    if not rows or not with_time:
        return Verdict(
            "empty: no rows" if not rows else f"{check.date_column} is NULL in all of {rows} rows",
            None,
            limit,
            "hours",
            0,
        )
    if newest is None or not math.isfinite(newest):
        return Verdict(f"the newest {check.date_column} is {scalar(newest)}: no time", None, limit, "hours", 1)
    age_s = scan.now.timestamp() - float(newest)
    hours = round(age_s / 3600, 3)
    if age_s < -AHEAD_S:
        return Verdict(
            f"ahead of the clock: the newest {check.date_column} lies {-hours:g} h in the future",
            hours,
            limit,
            "hours",
            1,
        )
    if not age_s <= limit * 3600:
        return Verdict(
            f"stale: the newest {check.date_column} is {hours:g} h old, {limit:g} h allowed", hours, limit, "hours", 1
        )
    return Verdict(None, hours, limit, "hours", 0)


def _no_duplicate(warehouse: Warehouse, declared: Declared, check: NoDuplicate, scan: Scan) -> Verdict:
    names = {**_scope(warehouse, declared, check.date_column, check.where), **_entities(warehouse, check.key)}
    rows = _rows(warehouse, "no_duplicate", names, _days(scan))
    if not rows:
        return Verdict("empty: no rows", None, 0, "rows", 0)
    *_, beyond, everything = rows[0]
    if beyond == 0:
        return Verdict(None, 0, 0, "rows", 0)
    sample = [
        {**{name: scalar(part) for name, part in zip(check.key, row, strict=False)}, "copies": scalar(row[-3])}
        for row in rows
        if row[-3] > 1
    ]
    error = f"{beyond} of {everything} rows share ({', '.join(check.key)}) with another"
    return Verdict(error, int(beyond), 0, "rows", int(beyond), sample)


def _null_ratio(warehouse: Warehouse, declared: Declared, check: NullRatio, scan: Scan) -> Verdict:
    names = {**_scope(warehouse, declared, check.date_column, check.where), "column": warehouse.quote(check.column)}
    [(rows, with_value)] = _rows(warehouse, "null_ratio", names, _days(scan))
    if not rows:
        return Verdict("empty: no rows", None, check.max_ratio, "ratio", 0)
    nulls = rows - with_value
    observed = nulls / rows
    if not observed <= check.max_ratio:
        return Verdict(
            f"{check.column} is NULL in {nulls} of {rows} rows, {check.max_ratio:g} of them allowed",
            observed,
            check.max_ratio,
            "ratio",
            nulls,
        )
    return Verdict(None, observed, check.max_ratio, "ratio", 0)


def _sql_file(warehouse: Warehouse, declared: Declared, check: SqlFile, scan: Scan) -> Verdict:
    """The user's own query; a second one sees to it that an empty table is not taken for one without violations."""
    path = next(
        (path for folder in (scan.project_dir / "checks", CHECKS) if (path := folder / f"{check.file}.sql").is_file()),
        None,
    )
    if path is None:
        raise refused(
            f"{declared.node.name}: there is no {check.file}.sql in {scan.project_dir / 'checks'} or sql/checks", code="check_no_file",
            hint="correct `file` in meta.checks",
        )  # fmt: skip
    where = relation(warehouse, declared.node)
    names = {**{name: warehouse.quote(column) for name, column in check.columns.items()}, "relation": where}
    violating = _filled(warehouse, path, names).rstrip().rstrip(";")
    wrapped = f"select subject, observed, threshold, count(*) over () as violation_rows from (\n{violating}\n) as violating limit {MOST_SAMPLES}"
    unused = [name for name in check.params if name not in _used(wrapped, check.params)]
    if unused:
        raise refused(
            f"{path.name} has no ${unused[0]}", code="check_bad_config", hint="correct `params` in meta.checks"
        )
    known = {**_days(scan), "began": scan.loaded_since}
    rows = warehouse.rows(wrapped, {**_used(wrapped, known), **check.params})
    if not rows and check.may_be_empty:
        return Verdict(None, None, None, "rows", 0)
    if not rows:
        [(everything,)] = warehouse.rows(f"select count(*) from {where}")
        return Verdict(None if everything else "empty: no rows", None, None, "rows", 0)
    sample = [{"subject": scalar(row[0]), "observed": scalar(row[1]), "threshold": scalar(row[2])} for row in rows]
    count = int(rows[0][3])
    return Verdict(
        f"{count} row{'' if count == 1 else 's'} violate{'s' if count == 1 else ''} {check.file}; such as {'; '.join(map(_violation, sample))}",
        sample[0]["observed"],
        sample[0]["threshold"],
        "rows",
        count,
        sample,
    )


def _violation(row: dict[str, Scalar]) -> str:
    """`id 7: 3, threshold 0`; a violation that speaks for itself has no number."""
    subject, observed, threshold = ("NULL" if value is None else value for value in row.values())
    return (
        f"{subject}: {observed}, threshold {threshold}" if observed != "NULL" or threshold != "NULL" else f"{subject}"
    )


# -- Queries ------------------------------------------------------------------------------------------------


def relation(warehouse: Warehouse, node: Node) -> str:
    """The node's table, quoted. A dbt source is known by the name that dbt made for it: its table may be called otherwise."""
    if node.resource_type == "source" and node.relation_name:
        return node.relation_name
    return warehouse.relation(node.database, node.schema, node.alias or node.name)


def scalar(value: Any) -> Scalar:
    """A value of the warehouse as JSON can hold it: NaN and the infinities as words."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, str | int | float | bool | None):
        return value
    return value.isoformat() if isinstance(value, date) else str(value)


def _rows(warehouse: Warehouse, file: str, names: dict[str, str], params: dict[str, Any]) -> list[tuple]:
    sql = _filled(warehouse, CHECKS / f"{file}.sql", names)
    return warehouse.rows(sql, _used(sql, params))


def _used(sql: str, params: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if re.search(rf"\${name}\b", sql)}


def _filled(warehouse: Warehouse, path: Path, names: dict[str, str]) -> str:
    """The text of a query. Lines that are comments go first: a name with a line break would leave them.

    Raises SluiceError (2) for a slot that has no name.
    """
    functions = FUNCTIONS[warehouse.adapter]

    def fill(match: re.Match[str]) -> str:
        word, argument = match[1], match[2]
        try:
            if argument:
                return functions[word].replace("{}", names.get(argument, argument))
            return names[word] if word in names else functions[word]
        except KeyError:
            raise refused(
                f"{path.name}: nothing is called {match[0]}", code="check_bad_config", hint="name it under `columns`"
            ) from None

    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as problem:
        raise SluiceError(f"{path}: {problem}", code="check_no_file", exit_code=78) from None
    return _SLOT.sub(fill, _COMMENT_LINE.sub("", text))


def _days(scan: Scan) -> dict[str, Any]:
    return {"since": scan.since, "end": scan.to + timedelta(days=1)}


def _where(condition: str | None) -> str:
    return f"({condition})" if condition else "true"


def _entities(warehouse: Warehouse, columns: list[str]) -> dict[str, str]:
    """The columns under names of our own; a table without any is one entity."""
    chosen = [warehouse.quote(column) for column in columns] or ["'all'"]
    keys = [f"entity_{i}" for i in range(len(chosen))]
    return {
        "entities": ", ".join(f"{column} as {key}" for column, key in zip(chosen, keys, strict=True)),
        "keys": ", ".join(keys),
    }


def _scope(warehouse: Warehouse, declared: Declared, date_column: str | None, where: str | None) -> dict[str, str]:
    """The table, and which of its rows: those of the scanned days where there is a date column."""
    scope = _where(where)
    if date_column is not None:
        column = warehouse.quote(date_column)
        scope = f"{column} >= $since and {column} < $end and {scope}"
    return {"relation": relation(warehouse, declared.node), "scope": scope}
