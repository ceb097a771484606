"""strace as the tests use it: it counts the system calls of a command's own process, or makes the N-th of one its last."""

import re
from pathlib import Path

FAULTS = {"killed": "signal=SIGKILL", "disk full": "error=ENOSPC", "disk broken": "error=EIO"}
# write: stdout and logs; pwrite64 and fdatasync: the state; sendto: what dbt is asked, and a state on a server.
CALLS = ["write", "pwrite64", "fdatasync", "sendto"]


def counting(into: Path) -> tuple[str, ...]:
    return ("strace", "-c", "-U", "name,calls", "-o", str(into))


def counted(counts: Path) -> dict[str, int]:
    """{call: how often it was made}, of a command that was run under `counting`."""
    found = re.findall(r"^(\w+)\s+(\d+)\s*$", counts.read_text(), re.MULTILINE)
    return {call: int(number) for call, number in found}


def striking(call: str, fault: str, number: int) -> tuple[str, ...]:
    """Its `number`-th `call`, from 1, ends as one of FAULTS says."""
    return ("strace", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:{FAULTS[fault]}:when={number}")
