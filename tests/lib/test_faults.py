"""A sample of tests/faults; `make test-faults` runs all of it."""

from faults.test_state_files import *  # noqa: F403
from faults.test_streams import *  # noqa: F403
