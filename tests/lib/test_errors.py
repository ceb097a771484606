"""Errors that a person can act on."""

import pytest

from sluice import errors
from sluice.errors import SluiceError, suggestion


@pytest.mark.parametrize(
    ("make", "exit_code"),
    [
        (errors.refused, 2),
        (errors.bad_stream, 65),
        (errors.unavailable, 69),
        (errors.busy, 75),
        (errors.misconfigured, 78),
    ],
)
def test_each_kind_has_one_exit_code(make, exit_code: int) -> None:
    problem = make("what happened", code="area_problem", hint="next command")
    assert isinstance(problem, SluiceError)
    assert (problem.message, problem.code, problem.exit_code, problem.hint, problem.line) == (
        str(problem),
        "area_problem",
        exit_code,
        "next command",
        None,
    )


@pytest.mark.parametrize(
    ("word", "says"),
    [("stage", "; did you mean 'stages'?"), ("strat_date", "; did you mean 'start_date'?"), ("zzz", "")],
)
def test_a_suggestion_is_made_only_when_something_is_near(word: str, says: str) -> None:
    assert suggestion(word, ["stages", "start_date"]) == says
