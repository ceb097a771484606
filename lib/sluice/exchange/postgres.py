"""Postgres: renamed in one transaction, and what hangs on the old relation by its oid is carried over in the same one.

Views that others made follow an oid, not a name: they would go on reading what was replaced. Their definitions are
taken down before the renaming, when they still name it, and put in again after it. Grants and owners are carried over.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import stamina

from sluice.exchange import Exchange, Move, Relation
from sluice.signals import interruptible
from sluice.warehouse import Warehouse, WarehouseError

# Below deadlock_timeout (1 s): whoever gives up is we, never a reader; and new readers queue behind us no longer than this.
LOCK_TIMEOUT = "300ms"
TRIES, WAIT_S = 60, 1.0
_LOCKED = ("55P03", "40P01")

_OID = "(select c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $schema and c.relname = $name)"

# What hangs on a table and stays with it: kind of thing, and its name.
_STAYS = {
    "materialised view or rule": """
        select distinct r.ev_class::regclass::text from pg_depend d join pg_rewrite r on r.oid = d.objid join pg_class v on v.oid = r.ev_class
        where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = $oid
          and r.ev_class <> $oid and v.relkind <> 'v'""",
    "foreign key": "select conrelid::regclass || '.' || conname from pg_constraint where contype = 'f' and confrelid = $oid and conrelid <> $oid",
    "trigger": "select tgname::text from pg_trigger where tgrelid = $oid and not tgisinternal",
    "row policy": "select polname::text from pg_policy where polrelid = $oid",
    "publication": "select p.pubname::text from pg_publication_rel r join pg_publication p on p.oid = r.prpubid where r.prrelid = $oid",
    "parent or child table": """
        select case when inhparent = $oid then inhrelid else inhparent end::regclass::text from pg_inherits
        where $oid in (inhparent, inhrelid)""",
    "function": """
        select distinct d.objid::regprocedure::text from pg_depend d
        where d.classid = 'pg_proc'::regclass
          and ((d.refclassid = 'pg_class'::regclass and d.refobjid = $oid)
               or (d.refclassid = 'pg_type'::regclass and d.refobjid in (
                   select unnest(array[t.oid, t.typarray]) from pg_type t where t.typrelid = $oid)))""",
}

# Views that read a relation, with what they are made of: the text names every relation in full, for search_path is empty.
_VIEWS = """
    select distinct v.oid::bigint, n.nspname::text, v.relname::text, pg_get_viewdef(v.oid), coalesce(v.reloptions, '{}')::text[]
    from pg_depend d join pg_rewrite r on r.oid = d.objid join pg_class v on v.oid = r.ev_class join pg_namespace n on n.oid = v.relnamespace
    where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = $oid
      and v.oid <> $oid and v.relkind = 'v' order by 1"""

# Who may do what with a relation or, where `column` is not null, with one of its columns; the owner left out.
_GRANTS = """
    select a.privilege_type, a.is_grantable, coalesce(r.rolname::text, '') as grantee, null::text as column
    from pg_class c cross join lateral aclexplode(c.relacl) a left join pg_roles r on r.oid = a.grantee
    where c.oid = $oid and a.grantee <> c.relowner
    union all
    select a.privilege_type, a.is_grantable, coalesce(r.rolname::text, ''), t.attname::text
    from pg_class c join pg_attribute t on t.attrelid = c.oid cross join lateral aclexplode(t.attacl) a
    left join pg_roles r on r.oid = a.grantee
    where c.oid = $oid and not t.attisdropped and a.grantee <> c.relowner"""


def look(warehouse: Warehouse, move: Move, name: str) -> Relation | None:
    found = warehouse.rows(
        f"""select c.oid::text, c.relkind::text, array(
                select attname::text from pg_attribute where attrelid = c.oid and attnum > 0 and not attisdropped order by attnum)
            from pg_class c where c.oid = {_OID} and c.relkind in ('r', 'p', 'v', 'm', 'f')""",
        {"schema": move.schema, "name": name},
    )
    return Relation(found[0][0], found[0][1] == "v", found[0][2]) if found else None


def blockers(warehouse: Warehouse, moves: list[Move]) -> list[str]:
    """What stays with the old table and cannot be carried over as a view can."""
    found = []
    for move in moves:
        live = look(warehouse, move, move.live)
        if live is not None:
            for kind, query in _STAYS.items():
                found += [
                    f"the {kind} {name} hangs on {move.table}, and would stay with what is replaced"
                    for (name,) in warehouse.rows(query, {"oid": int(live.id)})
                ]
    return found


def prepare(warehouse: Warehouse, moves: list[Move]) -> None:
    """Nothing: what was built aside refers to each other by oid."""


def exchange(warehouse: Warehouse, moves: list[Move], _ids: dict[str, tuple[str, str]]) -> None:
    tries = iter(
        stamina.retry_context(on=_is_locked, attempts=TRIES, timeout=None, wait_initial=WAIT_S, wait_max=WAIT_S)
    )
    while True:
        with interruptible():  # it sleeps in here
            attempt = next(tries)
        with attempt:
            _at_once(warehouse, [move for move in moves if look(warehouse, move, move.coming)])
            return


def _is_locked(problem: Exception) -> bool:
    return isinstance(problem, WarehouseError) and problem.number in _LOCKED


def _at_once(warehouse: Warehouse, moves: list[Move]) -> None:
    with warehouse.transaction():
        warehouse.execute(f"set local lock_timeout = '{LOCK_TIMEOUT}'")
        warehouse.execute("set local search_path = ''")
        old = {move: live for move in moves if (live := look(warehouse, move, move.live)) is not None}
        others = list(_others_views(warehouse, list(old.values())))
        _lock(warehouse, [view.place for view in others], old)
        for move in reversed(moves):
            drop(warehouse, move, move.going)
        for move, live in old.items():
            _carry_rights(warehouse, move, live)
        for move in moves:
            if move in old:
                _rename(warehouse, move, move.live, move.going)
            _rename(warehouse, move, move.coming, move.live)
        for view in others:
            warehouse.execute(f"create or replace view {view.place}{view.options} as {view.definition}")


def _lock(warehouse: Warehouse, others: list[str], old: dict[Move, Relation]) -> None:
    """Everything locked in the order in which readers do: a view, then what it reads.

    The other way round, whoever reads a view in a loop would always hold the view, and wait for the table.
    """
    views = [_place(warehouse, move, move.live) for move, live in reversed(old.items()) if live.is_view]
    for view in (*others, *views):  # LOCK TABLE would lock all that a view reads, also what is none of ours
        owner = warehouse.value(
            "select pg_get_userbyid(relowner)::text from pg_class where oid = $view::regclass", {"view": view}
        )
        warehouse.execute(f"alter view {view} owner to {warehouse.quote(owner)}")
    tables = [_place(warehouse, move, move.live) for move, live in reversed(old.items()) if not live.is_view]
    if tables:
        warehouse.execute(f"lock table {', '.join(tables)} in access exclusive mode")


@dataclass(frozen=True)
class _View:
    """A view of somebody else's; `definition` names all that it reads in full."""

    place: str
    options: str
    definition: str


def _others_views(warehouse: Warehouse, old: list[Relation]) -> Iterator[_View]:
    """The views that read what is replaced and are not replaced themselves: those stay with theirs."""
    seen = {int(live.id) for live in old}
    for live in old:
        for oid, schema, name, definition, options in warehouse.rows(_VIEWS, {"oid": int(live.id)}):
            if oid not in seen:
                seen.add(oid)
                with_options = f" with ({', '.join(options)})" if options else ""
                yield _View(warehouse.relation(None, schema, name), with_options, definition)


def _carry_rights(warehouse: Warehouse, move: Move, live: Relation) -> None:
    coming = look(warehouse, move, move.coming)
    assert coming is not None
    place = _place(warehouse, move, move.coming)
    owners = "select pg_get_userbyid(relowner)::text from pg_class where oid = $oid"
    owner = warehouse.value(owners, {"oid": int(live.id)})
    if owner != warehouse.value(owners, {"oid": int(coming.id)}):
        warehouse.execute(f"alter table {place} owner to {warehouse.quote(owner)}")
    there = set(warehouse.rows(_GRANTS, {"oid": int(coming.id)}))
    for privilege, is_grantable, grantee, column in warehouse.rows(_GRANTS, {"oid": int(live.id)}):
        if (privilege, is_grantable, grantee, column) in there or (column and column not in coming.columns):
            continue
        what = f"{privilege} ({warehouse.quote(column)})" if column else privilege
        to = warehouse.quote(grantee) if grantee else "public"
        warehouse.execute(f"grant {what} on {place} to {to}{' with grant option' if is_grantable else ''}")


def drop(warehouse: Warehouse, move: Move, name: str) -> None:
    relation = look(warehouse, move, name)
    if relation is not None:
        warehouse.execute(f"drop {_kind(relation)} {_place(warehouse, move, name)}")


def _rename(warehouse: Warehouse, move: Move, name: str, to: str) -> None:
    relation = look(warehouse, move, name)
    assert relation is not None
    warehouse.execute(f"alter {_kind(relation)} {_place(warehouse, move, name)} rename to {warehouse.quote(to)}")


def _place(warehouse: Warehouse, move: Move, name: str) -> str:
    return warehouse.relation(None, move.schema, name)


def _kind(relation: Relation) -> str:
    return "view" if relation.is_view else "table"


EXCHANGE = Exchange(look, blockers, prepare, exchange, drop)
