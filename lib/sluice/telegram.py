"""Sends plain text to Telegram chats. Never raises for what goes wrong on the way, and never shows the token.

The token is part of every URL of the Bot API: httpx logs it, exceptions and `repr(bot)` hold it. So that logger is
silenced and only the kind of an error is passed on, with Telegram's own words where it answered.
"""

import asyncio
import logging
import re
from dataclasses import dataclass
from typing import Any

from sluice.log import redact

LIMIT_UNITS = 4096  # of UTF-16, which is how Telegram counts
TIMEOUT_S = 10.0
LONGEST_WAIT_S = 60.0


@dataclass(frozen=True)
class Account:
    """A bot and the chats that it writes to. `api` is the address of the Bot API."""

    token: str
    chats: list[str]
    api: str

    def __repr__(self) -> str:
        return f"Account(chats={self.chats})"


def cut(text: str, limit: int = LIMIT_UNITS) -> str:
    """`text` within `limit` UTF-16 units, ended by how many characters were left out."""
    if _units(text) <= limit:
        return text
    room = limit - len("\n… 1000000000 characters left out")
    kept = text.encode("utf-16-le")[: 2 * room].decode("utf-16-le", errors="ignore")  # never half of a character
    return f"{kept}\n… {len(text) - len(kept)} characters left out"


def send(account: Account, chat: str, text: str) -> str | None:
    """Send one message, waiting once for as long as Telegram asks to, up to LONGEST_WAIT_S. Returns why it was not sent, or None."""
    _silence()
    try:
        return asyncio.run(_send(account, chat, cut(text)))
    except Exception as problem:  # whatever it is, the pipeline's result is none of its business
        return _why(problem, account)


def whoami(account: Account, *, timeout_s: float = TIMEOUT_S) -> tuple[str | None, str | None]:
    """The bot's name as Telegram knows it, and why it is not known: one of them is None."""

    async def ask() -> str:
        return str((await asyncio.wait_for(_bot(account, timeout_s).get_me(), timeout_s)).username)

    _silence()
    try:
        return asyncio.run(ask()), None
    except Exception as problem:
        return None, _why(problem, account, timeout_s)


def _silence() -> None:
    for name in ("httpx", "httpcore", "telegram"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _bot(account: Account, timeout_s: float = TIMEOUT_S) -> Any:
    from telegram import Bot
    from telegram.request import HTTPXRequest

    def request() -> HTTPXRequest:
        return HTTPXRequest(
            connection_pool_size=1, read_timeout=timeout_s, write_timeout=timeout_s, connect_timeout=timeout_s,
            pool_timeout=timeout_s, httpx_kwargs={"follow_redirects": False},
        )  # fmt: skip

    return Bot(account.token, base_url=f"{account.api}/bot", request=request(), get_updates_request=request())


async def _send(account: Account, chat: str, text: str) -> str | None:
    from telegram.error import RetryAfter

    bot = _bot(account)
    for attempt in (1, 2):
        try:
            await asyncio.wait_for(bot.send_message(chat, text), TIMEOUT_S)
            return None
        except RetryAfter as busy:
            wait = busy.retry_after
            wait_s = float(wait.total_seconds() if hasattr(wait, "total_seconds") else wait)
            if attempt == 2 or wait_s > LONGEST_WAIT_S:
                return f"Telegram asks to wait {wait_s:g} s"
            await asyncio.sleep(wait_s)
    return None


def _why(problem: Exception, account: Account, timeout_s: float = TIMEOUT_S) -> str:
    from telegram.error import BadRequest, Forbidden, InvalidToken, NetworkError, TimedOut

    if isinstance(problem, TimedOut | TimeoutError):
        return f"no answer within {timeout_s:g} s"
    if isinstance(problem, InvalidToken):
        return "Telegram does not know the bot: TELEGRAM_BOT_TOKEN is wrong"
    if isinstance(problem, BadRequest | Forbidden):
        # The library changes the case of what Telegram says.
        return redact(re.sub(re.escape(account.token), "***", str(problem), flags=re.IGNORECASE))
    if isinstance(problem, NetworkError):
        return "Telegram cannot be reached"
    return type(problem).__name__


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2
