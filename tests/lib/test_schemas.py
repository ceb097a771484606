"""The schemas that are kept are those that dbt would build, and a damaged one is built anew."""

import subprocess
import sys
from pathlib import Path

from sluice.config import ROOT

COMPARES = """
import sys
from pathlib import Path
from dbt.adapters.duckdb.credentials import DuckDBCredentials
from dbt.artifacts.resources import ModelConfig
from dbt.contracts.graph.nodes import ModelNode
from dbt.contracts.project import Project
from dbt_common import dataclass_schema
from sluice.dbt_engine import schemas

built = []
def build(cls, one=schemas._build):
    built.append(cls.__name__)
    return one(cls)

classes = ModelNode, ModelConfig, Project, DuckDBCredentials
expected = [schemas._build(cls).to_dict() for cls in classes]
schemas._build = build
schemas.keep(Path(sys.argv[1]))
assert [dataclass_schema.build_json_schema(cls).to_dict() for cls in classes] == expected
print(*built)
"""


def built(folder: Path) -> list[str]:
    """The classes for which a new process had to build a schema."""
    done = subprocess.run(
        [sys.executable, "-c", COMPARES, str(folder)],
        env={"PYTHONPATH": str(ROOT / "lib")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_second_process_reads_what_the_first_has_built(tmp_path: Path) -> None:
    folder = tmp_path / "schemas"
    assert built(folder) == ["ModelNode", "ModelConfig", "Project", "DuckDBCredentials"]
    whole = {path: path.read_bytes() for path in folder.iterdir()}
    damaged = min(whole)
    damaged.write_bytes(whole[damaged][:100])
    assert len(built(folder)) == 1  # the damaged one, and no other
    assert {path: path.read_bytes() for path in folder.iterdir()} == whole
