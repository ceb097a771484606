"""What the warehouse says: rows per month of a target, first days of a source, values of a column. Asked once, read-only."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from sluice.guards.partitions import parts
from sluice.guards.slices import BadSlice, Range, Slice, base_of, column_of, slice_of
from sluice.manifest import Node, meta_of
from sluice.records import Batch
from sluice.warehouse import Warehouse, WarehouseError
from sluice.windows import month_start

if TYPE_CHECKING:
    from sluice.full_refresh import FullRefresh
    from sluice.guards.case import Case

TIMEOUT_S = 30.0  # for all questions together
MOST_VALUES = 10_000
_log = logging.getLogger("sluice")
_TEXT = {"clickhouse": "toString({})", "postgres": "({})::text", "duckdb": "({})::varchar"}
_DATE = {"clickhouse": "toDate({})", "postgres": "({})::date", "duckdb": "({})::date"}
FILTERED = re.compile(
    r"apply_monthly_incremental_filter\(\s*['\"](?:\w+\.)?(\w+)['\"]|(?:month|window)_filter\(\s*['\"](?:\w+\.)?(\w+)['\"]"
)
_USUAL_DAYS = ("day", "date", "month", "block_date", "ds", "dt")


@dataclass(frozen=True)
class Facts:
    """Answers; what was not asked, or not answered, is not in them.

    `months` are rows by first day of the month, of a model and stage, `first_days` the first day of its source's rows and
    the source's name, `values` by model and var the values there are (of a range the least and the greatest), `absent` the
    models whose table is not there.
    """

    months: Mapping[tuple[str, str], Mapping[date, int]] = field(default_factory=dict)
    first_days: Mapping[tuple[str, str], tuple[date, str]] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    absent: Collection[str] = ()

    def rows(self, batch: Batch) -> int | None:
        """Rows of the batch's stage in the batch's months; None when it is not known."""
        months = self.months.get((batch.model or "", batch.stage))
        if months is None or batch.window is None:
            return None if months is None else sum(months.values())
        return sum(rows for month, rows in months.items() if batch.window.start <= month < batch.window.end)

    def latest(self, uid: str) -> date | None:
        """The latest month with rows; date.min for an empty table, None when it is not known."""
        known = [month for (model, _), months in self.months.items() if model == uid for month in (date.min, *months)]
        return max(known, default=None)

    def has_rows_from(self, uid: str, day: date) -> bool:
        latest = self.latest(uid)
        return latest is not None and latest >= day


def of_no_warehouse(case: Case) -> Facts:
    """Where the warehouse is a file that is not there yet, no table has a row."""
    return Facts(
        {(batch.model or "", batch.stage): {} for batch in case.batches if not case.is_replaced(batch.model or "")}
    )


def gather(case: Case, warehouse: Warehouse) -> Facts:
    """Ask what the plan's guards want to know. A question that fails is left unanswered, with a line in the log."""
    return _Asker(case, warehouse).all()


def months(case: Case, warehouse: Warehouse) -> dict[tuple[str, str], Mapping[date, int]]:
    """Rows by first day of the month, of each model and stage that is worked on window by window, as in Facts."""
    asker = _Asker(case, warehouse)
    cells = {(uid, batch.stage): case.blocks.get(uid) for uid, batches in case.windowed.items() for batch in batches}
    counted = {(uid, stage): asker.rows_by_month(uid, stage, block) for (uid, stage), block in cells.items()}
    return {cell: rows for cell, rows in counted.items() if rows is not None}


def whole_with_rows(case: Case, warehouse: Warehouse) -> set[str]:
    """Those of the models that are worked on as a whole that are there and, where they keep rows, have one."""
    asker = _Asker(case, warehouse)
    return {uid for uid in case.models if uid not in case.windowed and asker.has_a_row(uid)}


def source_months(
    case: Case, warehouse: Warehouse, stages: Iterable[tuple[str, str]], *, all_of_them: bool = False
) -> dict[tuple[str, str], dict[date, int]]:
    """Rows of the sources of these models and stages, by first day of the month, where they can be counted. With
    `all_of_them` nothing of a model with a source that has a day and cannot be.
    """
    asker = _Asker(case, warehouse)
    known = [(uid, stage) for uid, stage in stages if uid in case.blocks]
    counted = {
        (uid, stage): asker.source_months(uid, stage, case.blocks[uid], all_of_them=all_of_them) for uid, stage in known
    }
    return {cell: rows for cell, rows in counted.items() if rows is not None}


def rows_of_parents(case: Case, warehouse: Warehouse, models: Iterable[str]) -> dict[str, int]:
    """Rows of all that each of these models is made from, as far as that can be counted: a view would have to be run."""
    asker = _Asker(case, warehouse)
    counted = {uid: asker.rows_of_parents(uid) for uid in models}
    return {uid: rows for uid, rows in counted.items() if rows is not None}


class _Asker:
    def __init__(self, case: Case, warehouse: Warehouse):
        self._case, self._warehouse = case, warehouse
        self._columns: dict[str, dict[str, str] | None] = {}
        self._deadline = time.monotonic() + TIMEOUT_S
        self._text, self._date = _TEXT[warehouse.adapter], _DATE[warehouse.adapter]

    def all(self) -> Facts:
        months: dict[tuple[str, str], Mapping[date, int]] = {}
        first_days: dict[tuple[str, str], tuple[date, str]] = {}
        values: dict[str, Mapping[str, Any]] = {}
        for uid, batches in self._case.windowed.items():
            block = self._case.blocks.get(uid)
            stages = list(dict.fromkeys(batch.stage for batch in batches))
            if not self._case.is_replaced(uid):
                for stage in stages:
                    if (counted := self.rows_by_month(uid, stage, block)) is not None:
                        months[uid, stage] = counted
            if block is None or self._case.intent == "refill":
                continue
            for stage in stages:
                if first := self._first_day(uid, stage, block):
                    first_days[uid, stage] = first
            if known := self._values(uid, block):
                values[uid] = known
        return Facts(months, first_days, values, [uid for uid in self._case.windowed if self._is_absent(uid)])

    # -- the target -----------------------------------------------------------------------------------

    def _is_absent(self, uid: str) -> bool:
        node = self._case.node(uid)
        return not self._case.is_replaced(uid) and self._columns_of(node) == {}

    def has_a_row(self, uid: str) -> bool:
        node = self._case.node(uid)
        if not self._columns_of(node):
            return False
        return node.materialized == "view" or bool(self._ask(f"select 1 from {self._relation(node)} limit 1", {}))

    def rows_by_month(self, uid: str, stage: str, block: FullRefresh | None) -> dict[date, int] | None:
        node = self._case.node(uid)
        there = self._columns_of(node)
        if not there:
            return None if there is None else {}
        day = date_column(node, block, there)
        condition = self._condition(node, block, stage, there)
        if day is None or condition is None:
            return None
        where, params = condition
        return self._by_month(node, day, where, params)

    def _by_month(self, node: Node, day: str, where: str, params: dict[str, Any]) -> dict[date, int] | None:
        day = self._date.format(self._warehouse.quote(day))
        counted = self._ask(
            f"select min({day}), max({day}), count(*) from {self._relation(node)} where {where} group by"
            f" extract(year from {day}), extract(month from {day})",
            params,
        )
        return None if counted is None else {month_start(_day(first)): rows for first, _, rows in counted if first}

    # -- the source -----------------------------------------------------------------------------------

    def source_months(self, uid: str, stage: str, block: FullRefresh, *, all_of_them: bool) -> dict[date, int] | None:
        """Rows by month of all that the model is made from and that has a day; None where nothing has, or is not known."""
        node = self._case.node(uid)
        found: dict[date, int] | None = None
        for source in self._sources(node, block):
            there = self._columns_of(source) or {}
            day, condition = source_date_column(node, block, there), self._condition(node, block, stage, there)
            if day is None:
                continue
            counted = None if condition is None else self._by_month(source, day, *condition)
            if counted is None:
                if all_of_them:
                    return None
                continue
            found = found or {}
            for month, rows in counted.items():
                found[month] = found.get(month, 0) + rows
        return found

    def rows_of_parents(self, uid: str) -> int | None:
        nodes = self._case.manifest.nodes
        total = 0
        for up in self._case.manifest.parents[uid]:
            if nodes[up].materialized in ("view", "ephemeral") or not self._columns_of(nodes[up]):
                return None
            if (rows := self._ask(f"select count(*) from {self._relation(nodes[up])}", {})) is None:
                return None
            total += rows[0][0]
        return total

    def _first_day(self, uid: str, stage: str, block: FullRefresh) -> tuple[date, str] | None:
        node = self._case.node(uid)
        names = {base_of(name) for one in block.stages or [] for name in one.vars}
        wanted = {column for name in names if (column := column_of(node, block, name))}
        found = []
        for source in self._sources(node, block):
            there = self._columns_of(source) or {}
            day = source_date_column(node, block, there)
            condition = self._condition(node, block, stage, there)
            if day is None or condition is None or not wanted <= there.keys():
                continue
            where, params = condition
            # With a count: of no rows the least is 1970-01-01 in ClickHouse.
            column = self._warehouse.quote(day)
            rows = self._ask(
                f"select min({self._date.format(column)}), count({column}) from {self._relation(source)} where {where}",
                params,
            )
            if rows and rows[0][1]:
                found.append((_day(rows[0][0]), source.name))
        return min(found, default=None)

    def _values(self, uid: str, block: FullRefresh) -> dict[str, Any]:
        """The values of each column that the stages divide, in the sources that have it and in the table itself."""
        node = self._case.node(uid)
        known: dict[str, Any] = {}
        slices = [slice_ for stage in block.stages or [] if (slice_ := _slice(stage.vars))]
        for name in {name for one in slices for name in one}:
            column = column_of(node, block, name)
            if column is None:
                continue
            is_range = any(isinstance(one.get(name), Range) for one in slices)
            for place in self._sources(node, block):
                if column in (self._columns_of(place) or {}):
                    known[name] = _joined(known.get(name), self._known(place, column, is_range=is_range))
        return {name: value for name, value in known.items() if value}

    def _known(self, node: Node, column: str, *, is_range: bool) -> Any:
        quoted = self._warehouse.quote(column)
        if is_range:
            rows = self._ask(f"select min({quoted}), max({quoted}), count(*) from {self._relation(node)}", {})
            return [(int(low), int(high)) for low, high, count in rows or [] if count and low is not None] or None
        rows = self._ask(
            f"select distinct {self._text.format(quoted)} from {self._relation(node)} limit {MOST_VALUES + 1}", {}
        )
        return None if not rows or len(rows) > MOST_VALUES else [value for (value,) in rows]

    def _sources(self, node: Node, block: FullRefresh) -> list[Node]:
        """What the model is made from: the source that its block names, or all its parents that are tables."""
        nodes = self._case.manifest.nodes
        parents = [
            nodes[up] for up in self._case.manifest.parents[node.unique_id] if nodes[up].materialized != "ephemeral"
        ]
        return [up for up in parents if block.source in (None, up.name, up.alias)]

    # -- how to ask -----------------------------------------------------------------------------------

    def _condition(
        self, node: Node, block: FullRefresh | None, stage: str, there: Mapping[str, str]
    ) -> tuple[str, dict[str, Any]] | None:
        """The rows of a stage as SQL with its parameters; None where a var's column is not known."""
        declared = next((one for one in (block.stages if block else None) or [] if one.name == stage), None)
        if block is None or declared is None:
            return "true", {}
        slices = _slice(declared.vars)
        if slices is None:
            return None
        conditions: list[str] = ["true"]
        params: dict[str, Any] = {}
        for name, taken in slices.items():
            column = column_of(node, block, name)
            if column is None or column not in there:
                return None
            quoted = self._warehouse.quote(column)
            if isinstance(taken, Range):
                conditions.append(f"{quoted} >= {taken.span.start}")
                conditions += [f"{quoted} < {taken.span.end}"] if taken.span.end is not None else []
                continue
            for operator, chosen in (("in", taken.taken), ("not in", taken.left)):
                if chosen:
                    named = {f"p{len(params) + place}": value for place, value in enumerate(sorted(chosen))}
                    conditions.append(
                        f"{self._text.format(quoted)} {operator} ({', '.join('$' + key for key in named)})"
                    )
                    params |= named
        return " and ".join(conditions), params

    def _columns_of(self, node: Node) -> dict[str, str] | None:
        """Names and types of a table's columns; {} when it is not there, None when that is not known."""
        if node.unique_id not in self._columns:
            name = node.config.get("identifier") or getattr(node, "identifier", None) or node.alias or node.name
            if self._warehouse.adapter == "clickhouse":
                sql = "select name, type from system.columns where database = $schema and table = $name"
            else:
                sql = (
                    "select column_name, data_type from information_schema.columns where table_schema = $schema"
                    " and table_name = $name"
                )
            rows = self._ask(sql, {"schema": node.schema or "", "name": name})
            self._columns[node.unique_id] = None if rows is None else {str(name): str(kind) for name, kind in rows}
        return self._columns[node.unique_id]

    def _relation(self, node: Node) -> str:
        if node.resource_type == "source" and node.relation_name:
            return node.relation_name
        return self._warehouse.relation(node.database, node.schema, node.alias or node.name)

    def _ask(self, sql: str, params: dict[str, Any]) -> list[tuple] | None:
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            return None
        try:
            return self._warehouse.rows(sql, params, timeout_s=left_s)
        except WarehouseError as problem:
            _log.info("a guard could not ask the warehouse: %s", problem.message)
            return None


def date_column(node: Node, block: FullRefresh | None, there: Iterable[str]) -> str | None:
    """The column of the model's table that its windows go by: said, partitioned by, usual, or the only one of time."""
    there = dict.fromkeys(there) if not isinstance(there, Mapping) else there
    said = (block.date_column if block else None) or (meta_of(node).get("canary") or {}).get("date_column")
    if said:
        return said if said in there else None
    by_partition = [
        column
        for part in parts(node.config.get("partition_by"))
        if part.unit
        for column in there
        if re.search(rf"\b{re.escape(column)}\b", part.text)
    ]
    usual = [column for column in _USUAL_DAYS if column in there]
    of_time = [column for column, kind in there.items() if kind and re.search(r"date|time", kind, re.IGNORECASE)]
    for found in (by_partition, usual, of_time if len(of_time) == 1 else []):
        if found:
            return found[0]
    return None


def source_date_column(node: Node, block: FullRefresh, there: Mapping[str, str]) -> str | None:
    """The column of a source that the model's filter compares with the window."""
    filtered = [name for match in FILTERED.finditer(node.raw_code) for name in match.groups() if name]
    for name in filtered:
        if name in there:
            return name
    return None if filtered else date_column(node, block, there)


def _slice(vars: dict[str, Any]) -> Slice | None:
    try:
        return slice_of(vars)
    except BadSlice:
        return None


def _day(value: Any) -> date:
    return value.date() if isinstance(value, datetime) else value


def _joined(known: Any, more: Any) -> Any:
    """The values of two tables together; of ranges the least and the greatest."""
    if not known or not more:
        return known or more
    if isinstance(more[0], tuple):
        return [(min(known[0][0], more[0][0]), max(known[0][1], more[0][1]))]
    return list(dict.fromkeys([*known, *more]))
