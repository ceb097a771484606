"""Postgres: renamed in one transaction, with everything that hangs on the old relation by its oid carried over first."""

from sluice.exchange import Exchange, Move, Relation
from sluice.warehouse import Warehouse
look=blockers=exchange=drop=None
EXCHANGE = Exchange(look, blockers, exchange, drop, is_atomic=True)
