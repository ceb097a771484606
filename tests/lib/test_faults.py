"""A sample of tests/faults; `make test-faults` runs all of it."""

from faults.test_injection import (  # noqa: F401
    test_as_names_and_as_values_in_each_dialect,
    test_in_records_and_flags,
)
from faults.test_network import test_to_postgres  # noqa: F401
from faults.test_state_files import *  # noqa: F403
from faults.test_streams import *  # noqa: F403

pytest_plugins = ["servers"]
