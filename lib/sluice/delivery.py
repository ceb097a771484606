"""Whether a digest is sent, and to whom: not the same trouble every night, its end once, and nothing is lost on the way."""

from collections.abc import Generator

from sluice import incidents, telegram
from sluice.command import Context
from sluice.errors import SluiceError
from sluice.incidents import Memory
from sluice.records import NotifyResult, Record, Severity
from sluice.telegram import Account

CHANNEL = "telegram"
_ORDER: list[Severity] = ["INFO", "WARNING", "ERROR", "CRITICAL"]
_HEADS = {"remind": "STILL: ", "recovered": "RECOVERED: "}


def account(ctx: Context) -> Account | None:
    """The bot that is set up, None when there is none. Raises SluiceError (78) for a file that cannot be read."""
    token, chats = ctx.config.secret("TELEGRAM_BOT_TOKEN"), ctx.config.secret("TELEGRAM_CHAT_ID")
    listed = [chat.strip() for chat in (chats or "").split(",") if chat.strip()]
    return Account(token, listed, ctx.config.telegram_api) if token and listed else None


def deliver(
    ctx: Context, severity: Severity, key: str, lines: list[str], *, scope: str
) -> Generator[Record, None, None]:
    """Send what is to be sent, and what could not be before. Yields a notify_result for each message; never raises for its own trouble.

    A digest of INFO is trouble for nobody: it is sent as often as SLUICE_NOTIFY_LEVEL asks for it.
    """
    is_told = severity == "CRITICAL" or _ORDER.index(severity) >= _ORDER.index(ctx.config.notify_level)  # type: ignore[arg-type]
    trouble = key if is_told and severity != "INFO" else None
    try:
        memory = Memory(ctx.config.state_dir / "notify.json")
        decision = incidents.decide(memory.kept.open.get(scope), trouble, ctx.now)
        if decision == "quiet" and is_told and severity == "INFO":
            decision = "tell"
        found = account(ctx)
        if found is None:
            if decision == "tell" and trouble is not None:
                ctx.log.warning("told to the log only: TELEGRAM_BOT_TOKEN and TELEGRAM_CHAT_ID are not both set")
                memory.told(scope, trouble, decision, ctx.now)
                memory.save()
            return
        if decision != "quiet":
            head, *rest = lines
            memory.queue(found.chats, "\n".join([_HEADS.get(decision, "") + head, *rest, f"[{key}]"]), ctx.now)
            memory.told(scope, trouble, decision, ctx.now)
            memory.save()
        unreached: set[str] = set()
        for message in list(memory.kept.unsent):
            if message.chat in unreached:
                continue  # in the order in which they were written
            problem = telegram.send(found, message.chat, message.text)
            if problem is None:
                memory.sent(message)
            else:
                ctx.log.warning("telegram: %s; the next run sends it", problem)
            yield NotifyResult(
                channel=CHANNEL, severity=severity, dedupe_key=key, digest=[], error=problem,
                status="skipped" if problem else "ok",
            )  # fmt: skip
            if problem is not None:
                unreached.add(message.chat)
    except SluiceError as problem:
        ctx.log.warning("not told: %s", problem.message)
        yield NotifyResult(
            channel=CHANNEL, severity=severity, dedupe_key=key, digest=[], status="skipped", error=problem.message
        )


def test(ctx: Context) -> Generator[Record, None, int]:
    """Send a test message to every chat. The exit code is 1 when one was not reached, 78 when none is set up."""
    found = account(ctx)
    if found is None:
        ctx.log.error("TELEGRAM_BOT_TOKEN and TELEGRAM_CHAT_ID are not both set: there is nobody to tell")
        return 78
    failed = False
    for chat in found.chats:
        problem = None if ctx.dry_run else telegram.send(found, chat, "Sluice: this is a test, all is well")
        failed = failed or problem is not None
        if problem:
            ctx.log.error("chat %s: %s", chat, problem)
        yield NotifyResult(
            channel=CHANNEL, severity="INFO", dedupe_key="test", digest=["a test message"], error=problem,
            status="dry_run" if ctx.dry_run else "failed" if problem else "ok",
        )  # fmt: skip
    return 1 if failed else 0
