"""What meta.full_refresh may say, and what is said when it may not."""

import json
from contextlib import suppress
from datetime import date, datetime
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sluice.errors import REFUSED, SluiceError
from sluice.full_refresh import checked_vars, resolve

START = {"start_date": "2024-01-01"}


def stages(*given_stages: Any) -> dict[str, Any]:
    return START | {"stages": list(given_stages)}


def with_vars(**variables: Any) -> dict[str, Any]:
    return stages({"name": "a", "vars": variables})


BAD = [
    (None, "meta.full_refresh is not a mapping"),
    ([], "meta.full_refresh is not a mapping"),
    ("2024-01-01", "meta.full_refresh is not a mapping"),
    ({}, "has no start_date for the model"),
    ({"start_date": None}, "has no start_date for the model"),
    (START | {"batch_months": 0}, "batch_months 0"),
    (START | {"batch_months": -1}, "batch_months -1"),
    (START | {"batch_months": 1.5}, "batch_months 1.5"),
    (START | {"batch_months": 2.0}, "batch_months 2.0"),
    (START | {"batch_months": "2"}, "batch_months '2'"),
    (START | {"batch_months": True}, "batch_months True"),
    (START | {"batch_months": None}, "batch_months None"),
    (START | {"batch_months": 1201}, "batch_months 1201"),
    (START | {"batch_months": 10**9}, "batch_months 1000000000"),
    (START | {"batch_month": 2}, "batch_month is not known; did you mean 'batch_months'?"),
    (START | {"vars": {"a": 1}}, "vars is not known; known are start_date, batch_months, stages"),
    ({1: 2}, "[1]"),
    (
        {"start_date": datetime(2024, 1, 1)},
        "start_date datetime.datetime(2024, 1, 1, 0, 0) is not a date like '2024-01-31'",
    ),
    ({"start_date": "2024-01-01T00:00:00Z"}, "start_date '2024-01-01T00:00:00Z' is not a date"),
    ({"start_date": "2024-1-1"}, "start_date '2024-1-1' is not a date"),
    ({"start_date": "20240101"}, "start_date '20240101' is not a date"),
    ({"start_date": 20240101}, "start_date 20240101 is not a date"),
    ({"start_date": "2024-02-30"}, "start_date '2024-02-30'"),
    ({"start_date": "2023-02-29"}, "start_date '2023-02-29'"),
    ({"start_date": "1899-12-31"}, "start_date '1899-12-31' is before 1900-01-01"),
    ({"start_date": "２０２４-01-01"}, "start_date '２０２４-01-01'"),
    (START | {"stages": []}, "stages"),
    (START | {"stages": {}}, "stages"),
    (stages("a"), "stages[0] is not a mapping"),
    (stages({"vars": {}}), "stages[0].name is missing"),
    (stages({"name": "a"}, {"name": "b"}, {"name": "a"}), "two stages named 'a'"),
    ({"stages": [{"name": "a", "start_date": "2024-01-01"}, {"name": "b"}]}, "no start_date for stage 'b'"),
    (stages({"name": "a,b"}), "stages[0].name 'a,b' is no stage name"),
    (stages({"name": "../a"}), "stages[0].name '../a' is no stage name"),
    (stages({"name": ""}), "stages[0].name '' is no stage name"),
    (stages({"name": 2020}), "stages[0].name 2020"),
    (stages({"name": "a", "var": {}}), "stages[0].var is not known; did you mean 'vars'?"),
    (stages({"name": "a", "batch_months": "3"}), "stages[0].batch_months '3'"),
    (stages({"name": "a", "vars": []}), "stages[0].vars is not a mapping"),
    (with_vars(x={"y": 1}), "stages[0].vars gives x the value {'y': 1}"),
    (with_vars(x=[[1]]), "gives x the value [[1]]"),
    (with_vars(x=date(2024, 1, 1)), "gives x the value datetime.date(2024, 1, 1)"),
    (with_vars(x=float("nan")), "gives x the value nan"),
    (with_vars(x=[float("inf")]), "gives x the value [inf]"),
    (with_vars(x="a\0"), "gives x the value 'a\\x00'"),
    (with_vars(x=["\ud800"]), "gives x the value '\\ud800'"),
    (with_vars(x="{{ env_var('SECRET') }}"), "Jinja"),
    (with_vars(x=["{% do 1 %}"]), "Jinja"),
    (with_vars(x="{# #}"), "Jinja"),
    (with_vars(start_month="2024-01-01"), "sets start_month, which the window sets"),
    (with_vars(end_month="2024-01-01"), "sets end_month, which the window sets"),
    (with_vars(**{"a b": 1}), "has the var name 'a b'"),
    (stages({"name": "a", "vars": {1: 1}}), "has the var name 1"),
]


@pytest.mark.parametrize(("block", "says"), BAD)
def test_a_bad_block_is_refused_with_file_model_and_key(block: Any, says: str) -> None:
    with pytest.raises(SluiceError) as caught:
        resolve(block, file="models/marts/_marts.yml", model="balances")
    assert caught.value.exit_code == REFUSED
    head, *problems = caught.value.message.split("\n")
    assert head == "models/marts/_marts.yml: model balances:"
    assert all(problem.startswith("meta.full_refresh") for problem in problems)
    assert says in caught.value.message
    assert "models/marts/_marts.yml" in (caught.value.hint or "")


def test_all_problems_are_told_at_once() -> None:
    block = START | {"batch_months": 0, "stages": [{"name": "a", "start_date": "x"}, {"nme": "b"}]}
    with pytest.raises(SluiceError) as caught:
        resolve(block, file="f.yml", model="m")
    for key in (
        ".batch_months 0",
        ".stages[0].start_date 'x'",
        ".stages[1].name is missing",
        ".stages[1].nme is not known",
    ):
        assert f"meta.full_refresh{key}" in caught.value.message


def test_stages_take_what_they_lack_from_the_block() -> None:
    block = yaml.safe_load("""
        start_date: 2020-07-15
        stages:
          - {name: legacy, vars: {symbol_exclude: "USDC,sDAI"}}
          - {name: usdc, start_date: "2022-03-01", batch_months: 3, vars: {symbol: USDC}}
          - {name: validators_0_100k, batch_months: 1200, vars: {from: 0, to: 100000, only: [a, 1, 1.5, true, null]}}
    """)
    legacy, usdc, validators = resolve(block, file="f.yml", model="m")
    assert (legacy.name, legacy.start_date, legacy.batch_months) == ("legacy", date(2020, 7, 15), 1)
    assert (usdc.start_date, usdc.batch_months, usdc.vars) == (date(2022, 3, 1), 3, {"symbol": "USDC"})
    assert (validators.start_date, validators.batch_months) == (date(2020, 7, 15), 1200)
    assert validators.vars == {"from": 0, "to": 100000, "only": ["a", 1, 1.5, True, None]}


def test_one_stage_is_enough() -> None:
    (only,) = resolve(stages({"name": "usdc"}), file="f.yml", model="m")
    assert (only.name, only.start_date) == ("usdc", date(2024, 1, 1))


@pytest.mark.parametrize("day", ["2024-02-29", date(2024, 2, 29), "1900-01-01"])
def test_without_stages_there_is_one_called_default(day: Any) -> None:
    (only,) = resolve({"start_date": day, "batch_months": 2}, file="f.yml", model="m")
    assert (only.name, str(only.start_date), only.batch_months, only.vars) == ("default", str(day), 2, {})


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates() | st.datetimes(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "start_date", "batch_months", "stages", "vars", "x"]) | st.text(),
            inner,
            max_size=4,
        )
    ),
)


@given(
    anything
    | st.fixed_dictionaries(
        {"start_date": st.dates().map(str)}, optional={"stages": anything, "batch_months": anything}
    )
)
def test_whatever_the_block_is_it_is_resolved_or_refused(block: Any) -> None:
    with suppress(SluiceError):
        assert all(1 <= stage.batch_months <= 1200 for stage in resolve(block, file="f.yml", model="m"))


@given(st.dictionaries(st.text(), anything))
def test_checked_vars_survive_json_unchanged(variables: Any) -> None:
    try:
        checked = checked_vars(variables)
    except ValueError:
        return
    text = json.dumps(checked, ensure_ascii=False, allow_nan=False).encode()
    assert json.loads(text) == checked
    assert not any(mark in text.decode() for mark in ("{{", "{%", "{#"))
