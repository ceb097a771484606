"""Those who are told: Telegram's chats, and any service that Apprise has a URL for. Its URL is a secret as a whole: it is shown nowhere."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from sluice import telegram
from sluice.config import Config
from sluice.ids import content_hash
from sluice.records import Severity
from sluice.telegram import Account

GIVE_UP_S = 20.0  # most services are given 4 s to connect and 4 s to answer, some have rules of their own


@dataclass(frozen=True)
class Channel:
    """Somebody to tell. `name` is for records: telegram, or the scheme of an Apprise URL; `address` names it where
    messages wait: a chat, or a hash. `send` takes a text and its severity, and returns why it was not sent, or None.
    """

    name: str
    address: str
    send: Callable[[str, Severity], str | None] = field(repr=False)


def configured(config: Config, urls: list[str]) -> list[Channel]:
    """All channels: Telegram's chats, the Apprise `urls`, those of SLUICE_CHANNEL_URLS. Raises SluiceError (78) for a secret's
    file that cannot be read."""
    listed = [*urls, *(config.secret("SLUICE_CHANNEL_URLS") or "").split()]
    account = telegram_account(config)
    return [
        *([_chat(account, chat) for chat in account.chats] if account else []),
        *map(_service, dict.fromkeys(listed)),
    ]


def telegram_account(config: Config) -> Account | None:
    """The bot that is set up, None when there is none."""
    token, chats = config.secret("TELEGRAM_BOT_TOKEN"), config.secret("TELEGRAM_CHAT_ID")
    listed = [chat.strip() for chat in (chats or "").split(",") if chat.strip()]
    return Account(token, listed, config.telegram_api) if token and listed else None


def _chat(account: Account, chat: str) -> Channel:
    return Channel("telegram", chat, lambda text, severity: telegram.send(account, chat, text))


def _service(url: str) -> Channel:
    scheme = url.partition("://")[0].lower()
    name = scheme if "://" in url and scheme.isalnum() else "apprise"
    return Channel(name, f"{name}#{content_hash(url)}", lambda text, severity: _send(url, text, severity))


def _send(url: str, text: str, severity: Severity) -> str | None:
    """Send one message through Apprise. Returns why it was not sent, or None; never raises, and never shows the URL."""
    said: list[str | None] = [f"no end within {GIVE_UP_S:g} s"]

    def attempt() -> None:
        try:
            said[0] = _through_apprise(url, text, severity)
        except Exception as problem:  # its text may hold the URL
            said[0] = type(problem).__name__

    worker = threading.Thread(target=attempt, daemon=True)
    worker.start()
    worker.join(GIVE_UP_S)
    return said[0]


def _through_apprise(url: str, text: str, severity: Severity) -> str | None:
    for name in ("apprise", "urllib3", "requests"):  # they log URLs
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    from apprise import Apprise, NotifyFormat, NotifyType

    service = Apprise.instantiate(url)
    if service is None:
        return "this is no URL that Apprise knows"
    service.redirects = False
    title, _, body = text.partition("\n")
    kinds = {"INFO": NotifyType.INFO, "WARNING": NotifyType.WARNING}
    is_sent = service.notify(
        title=title if service.title_maxlen > 0 else "",
        body=telegram.cut((body or title) if service.title_maxlen > 0 else text, service.body_maxlen),
        notify_type=kinds.get(severity, NotifyType.FAILURE),
        body_format=NotifyFormat.TEXT,
    )
    return None if is_sent else "it did not take the message"
