"""Whether a digest is sent, and to whom: not the same trouble every night, its end once, and nothing is lost on the way."""

from collections.abc import Collection, Generator

from sluice import channels, incidents
from sluice.channels import Channel
from sluice.command import Context
from sluice.config import ROOT
from sluice.errors import SluiceError
from sluice.records import NotifyResult, Record, Severity
from sluice.telegram import Account

_ORDER: list[Severity] = ["INFO", "WARNING", "ERROR", "CRITICAL"]
_HEADS = {"remind": "STILL: ", "recovered": "RECOVERED: "}
NOBODY = "TELEGRAM_BOT_TOKEN and TELEGRAM_CHAT_ID are not both set, and there is no --channel"


def account(ctx: Context) -> Account | None:
    """The bot that is set up, None when there is none. Raises SluiceError (78) for a file that cannot be read."""
    return channels.telegram_account(ctx.config)


def deliver(
    ctx: Context, severity: Severity, key: str, lines: list[str], *,
    scope: str, troubles: Collection[str] = (), urls: Collection[str] = (),
) -> Generator[Record, None, None]:  # fmt: skip
    """Send what is to be sent, and what could not be before. Yields a notify_result for each message; never raises for its own trouble.

    A digest of INFO is trouble for nobody: it is sent as often as SLUICE_NOTIFY_LEVEL asks for it. `urls` are Apprise's.
    """
    is_told = severity == "CRITICAL" or _ORDER.index(severity) >= _ORDER.index(ctx.config.notify_level)  # type: ignore[arg-type]
    trouble = key if is_told and severity != "INFO" else None
    path = ctx.config.state_dir / "notify.json"
    name = "notify"
    try:
        found = channels.configured(ctx.config, list(urls))
        with incidents.remembered(path) as memory:
            decision = incidents.decide(memory.kept.open.get(scope), trouble, ctx.now, troubles)
            if decision == "quiet" and is_told and severity == "INFO":
                decision = "tell"
            if found and decision != "quiet":
                head, *rest = lines
                text = "\n".join([_HEADS.get(decision, "") + head, *rest, f"[{key}]"])
                memory.queue([one.address for one in found], text, ctx.now, severity)
            if found or (decision == "tell" and trouble is not None):
                memory.told(scope, trouble, decision, ctx.now, troubles)
            waiting = list(memory.kept.unsent)
        if not found:
            if decision == "tell" and trouble is not None:
                ctx.log.warning("told to the log only: %s", NOBODY)
            return
        if not waiting:
            return
        with incidents.alone(path.with_suffix(".sending")):
            for channel in found:
                name = channel.name
                yield from _send_waiting(ctx, channel, severity, key)
    except SluiceError as problem:
        ctx.log.warning("not told: %s", problem.message)
        yield NotifyResult(
            channel=name, severity=severity, dedupe_key=key, digest=[], status="skipped", error=problem.message
        )


def _send_waiting(ctx: Context, channel: Channel, severity: Severity, key: str) -> Generator[Record, None, None]:
    """Send a channel what waits for it, in the order in which it was written, up to the first that does not get through."""
    path = ctx.config.state_dir / "notify.json"
    for message in incidents.waiting(path, channel.address):
        problem = channel.send(message.text, message.severity)
        if problem is None:
            with incidents.remembered(path) as memory:
                memory.sent(message)
        else:
            ctx.log.warning("%s: %s; the next run sends it", channel.name, problem)
        yield NotifyResult(
            channel=channel.name, severity=severity, dedupe_key=key, digest=[], error=problem,
            status="skipped" if problem else "ok",
        )  # fmt: skip
        if problem is not None:
            return


def test(ctx: Context, urls: Collection[str]) -> Generator[Record, None, int]:
    """Send a test message to everybody. The exit code is 1 when one was not reached, 78 when nobody is set up."""
    found = channels.configured(ctx.config, list(urls))
    if not found:
        ctx.log.error("%s: there is nobody to tell", NOBODY)
        ctx.log.error("try: set them in %s/.env, or: notify --test --channel URL; docs/deploy.md says more", ROOT)
        return 78
    failed = False
    for channel in found:
        problem = None if ctx.dry_run else channel.send("Sluice: this is a test, all is well", "INFO")
        failed = failed or problem is not None
        if problem:
            ctx.log.error("%s: %s", f"chat {channel.address}" if channel.name == "telegram" else channel.name, problem)
        yield NotifyResult(
            channel=channel.name, severity="INFO", dedupe_key="test", digest=["a test message"], error=problem,
            status="dry_run" if ctx.dry_run else "failed" if problem else "ok",
        )  # fmt: skip
    return 1 if failed else 0
