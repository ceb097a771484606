"""Whose rows a part holds, from its number and from what part_log says; and what is done with it."""

import pytest

from sluice.dbt_engine.leftovers import History, Part, Table, Unknown, blocks, origin, remove

OURS, THEIRS = "p_5_5_0", "p_6_6_0"
HISTORY = History(
    written={OURS: True, THEIRS: False, "p_7_7_0": True},
    merged={
        "p_5_7_1": [OURS, THEIRS, "p_7_7_0"],
        "p_5_5_0_9": [OURS],  # a mutation writes a part anew
        "p_1_5_2": ["p_1_3_1", OURS],
        "p_6_8_1": [THEIRS, "p_8_8_0"],
        "p_5_7_2": ["p_5_5_0_9", "p_7_7_0"],
    },
    rows={OURS: 10, THEIRS: 20, "p_7_7_0": 30},
)


def part(name: str, rows: int = 1) -> Part:
    return Part(name, "p", *blocks(name), rows)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("p_1_4_3", "other"),  # from before, whoever wrote it
        (OURS, "ours"),
        (THEIRS, "other"),
        ("p_5_5_0_9", "ours"),
        ("p_5_7_2", "ours"),
        ("p_5_7_1", "mixed"),
        ("p_1_5_2", "mixed"),  # p_1_3_1 is not in part_log any more, but its number says that it is from before
        ("p_6_8_1", "unknown"),
        ("p_9_9_0", "unknown"),
    ],
)
def test_the_origin_of_a_part(name: str, expected: str) -> None:
    assert origin(part(name), HISTORY, {"p": 4, "q": 99}) == expected


def test_in_a_partition_that_was_not_there_everything_is_new() -> None:
    assert origin(part("p_0_0_0"), HISTORY, {}) == "unknown"
    assert origin(part("p_0_0_0"), History(written={"p_0_0_0": True}), {}) == "ours"


class Server:
    """A table in memory that does what it is told."""

    def __init__(self, *parts: Part, found: int = 0, keeps_blocks: bool = False, vanishing: str = ""):
        self.there, self.found, self.told, self.vanishing = list(parts), found, [], vanishing
        self.table = Table(
            name="`s`.`t`",
            keeps_blocks=keeps_blocks,
            parts=lambda: list(self.there),
            history=lambda: HISTORY,
            value=lambda _: self.found,
            execute=self.execute,
        )

    def execute(self, sql: str) -> None:
        self.told.append(sql)
        if "delete" in sql:
            self.found = 0
            return
        name = sql.split("'")[1]
        self.there = [part for part in self.there if part.name != name]
        if name == self.vanishing:
            self.there.append(part("p_5_7_2"))
            raise RuntimeError("Code: 232. DB::Exception: No part")


def test_only_our_parts_are_dropped() -> None:
    server = Server(part("p_1_4_3"), part(OURS), part(THEIRS), part("p_9_9_1", rows=0))
    assert remove(server.table, {"p": 4}) == 1
    assert server.told == [f"alter table `s`.`t` drop part '{OURS}'"]


def test_a_part_that_a_merge_took_away_is_found_again() -> None:
    server = Server(part(OURS), vanishing=OURS)
    remove(server.table, {"p": 4})
    assert [sql.split("'")[1] for sql in server.told] == [OURS, "p_5_7_2"]


def test_another_error_is_not_swallowed() -> None:
    server = Server(part(OURS))
    table = Table(**{**vars(server.table), "execute": lambda sql: 1 / 0})
    with pytest.raises(ZeroDivisionError):
        remove(table, {"p": 4})


@pytest.mark.parametrize("name", ["p_5_7_1", "p_9_9_0"])
def test_nothing_at_all_is_dropped_while_one_part_is_in_doubt(name: str) -> None:
    server = Server(part(OURS), part(name))
    with pytest.raises(Unknown, match=name):
        remove(server.table, {"p": 4})
    assert server.told == []


@pytest.mark.parametrize(("found", "is_known"), [(40, True), (39, False), (0, True)])
def test_rows_that_know_their_block_are_deleted_from_a_merged_part(found: int, is_known: bool) -> None:
    """Only when there are as many as our parts had: a merge that replaces rows may have taken some."""
    server = Server(part("p_5_7_1"), found=found, keeps_blocks=True)
    if not is_known:
        with pytest.raises(Unknown):
            remove(server.table, {"p": 4})
        return
    remove(server.table, {"p": 4})
    assert [("_block_number in (5, 7)" in sql) for sql in server.told] == ([True] if found else [])


def test_a_table_that_never_comes_to_rest_is_given_up() -> None:
    server = Server(part(OURS))
    table = Table(**{**vars(server.table), "execute": lambda sql: None})
    with pytest.raises(Unknown, match="tried again"):
        remove(table, {"p": 4})
