"""An event's message is filled as protobuf's own ParseDict fills it, or refused as it refuses."""

from datetime import UTC, datetime
from typing import Any

import pytest
from dbt.adapters.events import adapter_types_pb2
from dbt.events import core_types_pb2
from dbt.events.types import LogModelResult
from dbt_common.events.base_types import EventLevel, msg_from_base_event
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from sluice.dbt_engine.event_messages import filled, told

NOW = datetime.now(UTC).isoformat()
INFO = {
    "level": "debug", "msg": "é\n", "invocation_id": "", "extra": {"a": "b"}, "ts": "2024-05-01T10:20:30.123456Z", "pid": 7,
    "thread": "MainThread", "code": "Z1", "name": "SQLQuery",
}  # fmt: skip
NODE = {
    "node_path": "a.sql", "node_name": "a", "unique_id": "model.shop.a", "resource_type": "model", "materialized": "table",
    "node_status": "started", "node_started_at": NOW, "node_finished_at": "", "meta": {"owner": "x", "deep": "[1]"},
    "node_relation": {"database": "d", "schema": "s", "alias": "a", "relation_name": "d.s.a"}, "node_checksum": "c",
}  # fmt: skip
KINDS = [
    adapter_types_pb2.SQLQuery, adapter_types_pb2.SQLQueryStatus, adapter_types_pb2.SQLQueryMsg, adapter_types_pb2.SchemaCreation,
    core_types_pb2.LogModelResult, core_types_pb2.LogModelResultMsg, core_types_pb2.NodeStart, core_types_pb2.CommandCompleted,
]  # fmt: skip
scalars = (
    st.none() | st.booleans() | st.integers(-(2**66), 2**66) | st.floats() | st.text(max_size=5) | st.binary(max_size=3)
)
values = st.one_of(
    scalars, st.just(INFO), st.just(NODE), st.just(NOW), st.dictionaries(st.text(max_size=3), scalars, max_size=2),
    st.lists(scalars, max_size=2),
)  # fmt: skip


def outcome(fill: Any, fields: dict, kind: type[Message]) -> bytes | str:
    try:
        return fill(fields, kind()).SerializeToString(deterministic=True)
    except Exception:
        return "refused"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(st.data())
def test_as_protobuf_does(kind: type[Message], data: st.DataObject) -> None:
    names = st.sampled_from([field.name for field in kind.DESCRIPTOR.fields]) | st.just("no_such_field")
    fields = data.draw(st.dictionaries(names, values, max_size=5))
    assert outcome(filled, fields, kind) == outcome(ParseDict, fields, kind)


def test_what_dbt_sends() -> None:
    fields = {
        "node_info": NODE,
        "description": "model a",
        "status": "OK",
        "index": 1,
        "total": 3,
        "execution_time": 0.25,
    }
    assert filled(fields, core_types_pb2.LogModelResult()) == ParseDict(fields, core_types_pb2.LogModelResult())
    again = fields | {"node_info": NODE | {"node_status": "success", "node_finished_at": None, "meta": {"n": True}}}
    for one in (again, again, fields | {"node_info": NODE | {"meta": {"n": 1}}}):  # is it what was said before?
        assert filled(one, core_types_pb2.LogModelResult()) == ParseDict(one, core_types_pb2.LogModelResult())
    info = {"info": INFO | {"extra": {}}}
    assert filled(info, core_types_pb2.LogModelResultMsg()) == ParseDict(info, core_types_pb2.LogModelResultMsg())


@pytest.mark.parametrize("level", [None, EventLevel.WARN])
def test_a_log_is_told_what_dbt_says(level: EventLevel | None) -> None:
    event = LogModelResult(node_info=NODE, description="a model", status="OK", index=1, total=3, execution_time=0.25)
    info, dbts = told(event, level).info, msg_from_base_event(event, level).info
    assert info == (dbts.name, dbts.level, dbts.msg)
