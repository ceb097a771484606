"""Models' configs under vars that the project was not parsed with: dbt's own parse-time render, and nothing is run."""

from __future__ import annotations

from typing import Any

import msgspec

from sluice.dbt_engine import invocation, wire
from sluice.dbt_engine.parse_check import ParseCheck


def serve(config: Any, manifest: Any, settings: wire.Settings, ask: wire.MovedConfigs, channel: wire.Channel) -> None:
    """Send a Reply (without a number) with the answers, or the failure."""
    try:
        check = ParseCheck(config, manifest, settings.base_vars)
        moved = [check.moved_config(unique_id, vars) for unique_id, vars in ask.asked]
        channel.send(wire.Reply(0, msgspec.Raw(msgspec.json.encode(moved, enc_hook=str))))
    except Exception as error:
        kind = invocation.failure_kind(error, of_dbt="configuration")
        channel.send(wire.Reply(0, failure=wire.Failure(kind, invocation.message(error))))
