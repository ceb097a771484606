"""How a batch may be cut when it is too big, so that its parts leave what the whole would: read from SQL and strategy.

When in doubt it may not: a batch that fails says why, where a wrong part would say nothing.
"""

import re
from collections.abc import Iterable, Iterator

from sluice.cumulative import reads_itself
from sluice.guards.case import Case
from sluice.guards.facts import FILTERED
from sluice.guards.ignored_vars import WINDOW
from sluice.guards.order import ADDS_UP, COMMENT
from sluice.guards.partitions import Unit, columns, parts
from sluice.guards.rendered import config_calls
from sluice.guards.slices import BadSlice, Range, column_of, slice_of
from sluice.guards.writing import writing
from sluice.manifest import Manifest, Node
from sluice.records import Batch, Ways, WindowUnit
from sluice.splitting import UNITS

_MONTHS_BY_HAND = re.compile(r"""\bvar\s*\(\s*['"](?:start_month|end_month)['"]""")
_DAYS_BY_HAND = re.compile(r"""\bvar\s*\(\s*['"](?:start_date|end_date)['"]""")
_COARSE = re.compile(
    r"\b(?:toStartOf(?:Month|Week|Quarter|Year|Interval)|toMonday|toYYYYMM|toYear|toMonth|toISOWeek|last_day|toLastDayOf\w+|month|year|quarter|week\w*)\s*\("
    r"|\b(?:date_trunc|datetrunc|time_bucket|extract|date_part)\s*\(\s*'?(?:week|month|quarter|year|decade)",
    re.IGNORECASE,
)
_OVER = re.compile(r"\bover\s*\(|\bwindow\s+\w+\s+as\s*\(", re.IGNORECASE)
_PARTITION = re.compile(
    r"\s*partition\s+by\s+((?:[^()]|\([^()]*\))*?)\s*(?:\border\s+by\b|\brows\b|\brange\b|\))", re.IGNORECASE
)
_GROUPS = re.compile(r"\bgroup\s+by\b|\bselect\s+distinct\b", re.IGNORECASE)
_DAY = re.compile(r"(?:^|_)(?:day|date|dt|ds|hour|time|timestamp|ts|at)$", re.IGNORECASE)
_OWN_DELETE = re.compile(r"(?:get_delete_insert_merge_sql|incremental_delete_insert|get_incremental_\w+_sql)$")
_DBTS_OWN = re.compile(r"dbt(?:_|$)")
_WINDOW_MACROS = re.compile(r"\b(?:month_filter|window_filter|apply_monthly_incremental_filter|slice_filter)\s*\(")
_FINEST: dict[Unit, WindowUnit] = {"hour": "day", "day": "day", "month": "month"}


def of_plan(case: Case, batches: Iterable[Batch]) -> Iterator[Ways | None]:
    """The ways of each batch in turn. Batches of a model that differ in nothing but their window have one answer."""
    known: dict[str, Ways | None] = {}
    for batch in batches:
        apart = {name: value for name, value in batch.vars.items() if name not in WINDOW}
        key = repr((batch.model, batch.window is None, apart, case.configs.get(batch.batch_id)))
        if key not in known:
            known[key] = ways(case, batch)
        yield known[key]


def ways(case: Case, batch: Batch) -> Ways | None:
    """The ways in which a windowed batch may be cut; None for one that has no window."""
    if batch.window is None or batch.model is None:
        return None
    node = case.node(batch.model)
    how = _writes(case, batch)
    if how is None:
        return Ways(
            but="what its materialization does to the rows of other batches is not known: append, or delete by key"
        )
    window, slices, but = how
    by_sql, why = _by_sql(case, batch, node)
    if UNITS.index(by_sql) < UNITS.index(window) or not but:
        window, but = by_sql, why
    return Ways(window, slices, but)


def _writes(case: Case, batch: Batch) -> tuple[WindowUnit, list[str], str] | None:
    """The shortest window and the vars that may be cut, as far as it depends on how the batch writes; None: not at all."""
    import msgspec

    appended = msgspec.structs.replace(batch, full_refresh=False)  # as all parts but the first are
    slices = list(_slices(case, batch))
    match writing(case, appended):
        case "appends":
            return "day", slices, ""
        case "exchanges":
            return _exchanges(case, batch, slices)
        case "overwrites":
            return _overwrites(case, batch, slices)
    return None


def _exchanges(case: Case, batch: Batch, slices: list[str]) -> tuple[WindowUnit, list[str], str]:
    """Where the project deletes in a way of its own, it must delete what the part writes and nothing else."""
    own = [
        macro.macro_sql for macro in case.manifest.macros.values() if _OWN_DELETE.search(macro.name) and _is_own(macro)
    ]
    if not own and case.config(batch).get("unique_key"):
        return "day", slices, ""
    if own and all(_WINDOW_MACROS.search(sql) and not _MONTHS_BY_HAND.search(sql) for sql in own):
        return "day", slices, ""
    if case.config(batch).get("unique_key") and not any(_MONTHS_BY_HAND.search(sql) for sql in own):
        return "day", slices, ""
    return "planned", [], (
        "each part would delete what the others wrote: its strategy deletes in a way of the project's own, without a key and "
        "not by sluice.window_filter; append, or declare unique_key"
    )  # fmt: skip


def _overwrites(case: Case, batch: Batch, slices: list[str]) -> tuple[WindowUnit, list[str], str]:
    """Parts must hold whole partitions."""
    key = parts(case.config(batch).get("partition_by"))
    units = [part.unit for part in key if part.unit]
    window: WindowUnit = "planned"
    if units and all(unit in _FINEST for unit in units):
        window = "month" if "month" in units else "day"
    node, block = case.node(batch.model or ""), case.blocks.get(batch.model or "")
    by = {part.column for part in key if part.column}
    kept = [name for name in slices if block is not None and column_of(node, block, name) in by]
    if window == "day":
        return window, kept, ""
    return window, kept, (
        f"insert_overwrite replaces whole partitions ({case.config(batch).get('partition_by')}), and each part would wipe out "
        "the others: partition_by the day, or append"
    )  # fmt: skip


def _slices(case: Case, batch: Batch) -> Iterator[str]:
    """The vars of the batch's stage that its SQL filters by, with the package's own macros."""
    code = _code(case.manifest, case.node(batch.model or ""))
    try:
        given = slice_of({name: value for name, value in batch.vars.items() if name not in case.base_vars})
    except BadSlice:
        return
    for name, taken in given.items():
        if isinstance(taken, Range):
            by = (
                r"(?!.*\bvar_name\b)"
                if name == "validator_index"
                else rf"[^{{}}]*\bvar_name\s*=\s*['\"]{re.escape(name)}['\"]"
            )
            called = re.search(rf"\bindex_range_filter\s*\(\s*['\"](?:\w+\.)?(\w+)['\"]{by}", code)
        elif name == "symbol" and taken.taken:
            called = re.search(r"\bsymbol_filter\s*\(\s*['\"](?:\w+\.)?(\w+)['\"]\s*\)", code)
        else:
            continue
        if called and _is_apart(case, batch, code, called[1]):
            yield name


def _is_apart(case: Case, batch: Batch, code: str, column: str) -> bool:
    """Whether what is computed of one value of the column has nothing to do with the others."""
    return (not _adds_up(code) or column in _key(case, batch)) and all(column in names for names in _over(code))


def _by_sql(case: Case, batch: Batch, node: Node) -> tuple[WindowUnit, str]:
    """The shortest window as far as the model's SQL goes, and why it is no day."""
    block = case.blocks.get(batch.model or "")
    said = block.min_window if block is not None else None
    code = _code(case.manifest, node)
    if said is None and (doubt := _doubt(case, batch, node, code)):
        return "planned", f"{doubt}; min_window: day in its meta.full_refresh says that days leave the same rows"
    if (said or "day") != "month" and (why := _knows_no_days(case, batch, node, code)):
        return "month", why
    return said or "day", "its meta.full_refresh says min_window: month" if said == "month" else ""


def _knows_no_days(case: Case, batch: Batch, node: Node, code: str) -> str:
    """Why the vars of a part would not reach its SQL, and what to do; empty where they do."""
    macro = case.manifest.macros.get("macro.sluice.month_window")
    if not FILTERED.search(code) or macro is None:
        return "its SQL does not filter by the days of a part, as sluice.apply_monthly_incremental_filter does"
    if "days_of" not in macro.macro_sql:
        return "the project's copy of the package sluice knows no days: dbt deps"
    if _MONTHS_BY_HAND.search(code) or "month_window" in code:
        return "its SQL reads start_month or end_month itself: the package's filters know the days of a part as well"
    if _DAYS_BY_HAND.search(node.raw_code + code) or {"start_date", "end_date"} & batch.vars.keys():
        return (
            "start_date and end_date mean something else in this project: call them otherwise, and a part can set them"
        )
    return ""


def _doubt(case: Case, batch: Batch, node: Node, code: str) -> str:
    """Why shorter windows may leave other rows than the planned ones; empty where nothing hints at it."""
    if _COARSE.search(code):
        return "its SQL computes something of a whole week or month"
    if "window_start" not in code and not all(any(map(_DAY.search, names)) for names in _over(code)):
        return "a window function of its SQL may look at other days"
    if _adds_up(code) and not any(map(_DAY.search, _key(case, batch))):
        return "its SQL adds up rows and its unique_key has no day"
    if reads_itself(node) and "window_start" not in code:
        return "it goes on from its own days before, and not by sluice.window_start"
    return ""


def _adds_up(code: str) -> bool:
    return bool(ADDS_UP.search(code) or _GROUPS.search(code))


def _over(code: str) -> Iterator[list[str]]:
    """Of each window function the columns that it is partitioned by."""
    for found in _OVER.finditer(code):
        by = _PARTITION.match(code, found.end())
        yield re.findall(r"\w+", by[1]) if by else []


def _key(case: Case, batch: Batch) -> set[str]:
    return columns(case.config(batch).get("unique_key"))


def _code(manifest: Manifest, node: Node) -> str:
    """The model's SQL, that of the ephemeral models in it, and of the project's macros that they call; without config()."""
    ephemeral = [
        manifest.nodes[up]
        for up in manifest.ancestors(node.unique_id)
        if manifest.nodes[up].materialized == "ephemeral"
    ]
    called = {name for one in (node, *ephemeral) for name in one.depends_on.macros}
    while (
        more := {up for name in called if name in manifest.macros for up in manifest.macros[name].depends_on.macros}
        - called
    ):
        called |= more
    macros = [manifest.macros[name] for name in sorted(called) if name in manifest.macros]
    texts = [_without_config(one.raw_code) for one in (node, *ephemeral)] + [
        macro.macro_sql for macro in macros if _is_own(macro)
    ]
    return COMMENT.sub("", "\n".join(texts))


def _without_config(code: str) -> str:
    for call in list(config_calls(code)):
        code = code.replace(call, "")
    return code


def _is_own(macro) -> bool:
    """Whether a macro is the project's, not dbt's and not of the package sluice."""
    return macro.package_name != "sluice" and not _DBTS_OWN.match(macro.package_name)
