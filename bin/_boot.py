"""Every script's first import: finds lib/ and the project's own Python, whatever PATH, folder or symlink it came by."""

import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
PYTHON = os.path.join(ROOT, ".venv", "bin", "python")

# In a container there is no .venv: the Python that was started has the packages.
if os.path.exists(PYTHON) and os.path.realpath(sys.prefix) != os.path.realpath(os.path.join(ROOT, ".venv")):
    os.execv(PYTHON, [PYTHON, *sys.argv])  # noqa: S606

sys.path.insert(0, os.path.join(ROOT, "lib"))

if sys.version_info < (3, 11):  # noqa: UP036
    found = ".".join(map(str, sys.version_info[:2]))
    print(
        f"Python {found} ({sys.executable}) is too old: 3.11 is needed\n  try: make setup PYTHON=python3.11",
        file=sys.stderr,
    )
    sys.exit(78)
