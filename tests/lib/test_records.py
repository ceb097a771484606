"""Records: what is written can be read again, and the JSON Schema says the same as the code."""

import json
from datetime import date

import jsonschema
import msgspec
import pytest
from builders import a_plan, a_result, records_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sluice.docs import schema
from sluice.pipe import decode
from sluice.records import TYPES, Batch, Record, Summary, Window


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads(schema()))


@pytest.mark.parametrize("record_type", TYPES.values(), ids=TYPES)
@given(data=st.data())
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_what_is_written_is_read_again_and_fits_the_schema(
    record_type: type[Record], validator: jsonschema.Draft202012Validator, data: st.DataObject
) -> None:
    record = data.draw(records_of(record_type))
    line = msgspec.json.encode(record)
    assert b"\n" not in line
    assert decode(line) == record
    validator.validate(json.loads(line))


def test_the_schema_refuses_what_the_code_refuses(validator: jsonschema.Draft202012Validator) -> None:
    plain = msgspec.to_builtins(a_plan()[1][0])
    validator.validate(plain)
    for wrong in ({"seq": "1"}, {"reason": "fun"}, {"vars": {"x": {}}}, {"window": {"start": "2024-01-01"}}):
        with pytest.raises(ValueError, match="batch: "):
            decode(msgspec.json.encode(plain | wrong))
        with pytest.raises(jsonschema.ValidationError):
            validator.validate(plain | wrong)


@pytest.mark.parametrize("name", TYPES)
def test_every_line_begins_with_the_envelope(name: str) -> None:
    fields = [field.encode_name for field in msgspec.structs.fields(TYPES[name])]
    assert fields[:3] == ["v", "run_id", "at"]


def test_a_line_begins_with_its_type() -> None:
    line = msgspec.json.encode(Summary(command="x", run_id="r", at="a"))
    assert list(json.loads(line))[:4] == ["type", "v", "run_id", "at"]


def test_windows_are_written_as_days() -> None:
    batch = a_plan()[1][0]
    assert json.loads(msgspec.json.encode(batch))["window"] == {"start": "2024-01-01", "end": "2024-02-01"}
    assert decode(msgspec.json.encode(batch)).window == Window(date(2024, 1, 1), date(2024, 2, 1))


def test_records_do_not_share_what_they_default_to() -> None:
    one, other = (
        Batch(batch_id="", plan_id="", seq=1, total=1, reason="daily", select=[], expect=[]) for _ in range(2)
    )
    one.vars["x"] = 1
    one.exclude.append("x")
    assert (other.vars, other.exclude) == ({}, [])


def test_a_result_says_which_batch_it_is_of() -> None:
    batch = a_plan()[1][1]
    result = a_result(batch)
    assert (result.batch_id, result.seq, result.window) == (batch.batch_id, 2, batch.window)
