"""A refresh whose state is on a Postgres server, killed with -9 at random moments and resumed each time."""

import uuid
from pathlib import Path

from test_kill_and_resume import killed_over_and_over

pytest_plugins = ["servers", "test_kill_and_resume"]


def test_a_refresh_with_its_state_on_a_server_ends_in_the_same_tables(
    postgres, ledger: dict[str, str], tmp_path: Path
) -> None:
    own, other = (
        f"postgresql://test:unasked@127.0.0.1:{postgres.port}/postgres?sslmode=disable&schema=k_{uuid.uuid4().hex[:12]}"
        for _ in range(2)
    )
    killed_over_and_over(ledger | {"SLUICE_STATE": own}, {"SLUICE_STATE": other}, own, tmp_path)
