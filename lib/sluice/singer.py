"""The Singer protocol: what a tap writes, a message a line, and what a target may answer.

The specification names four messages: SCHEMA before the first RECORD of its stream, RECORD, STATE (opaque: "all before
this line needs not be fetched again") and ACTIVATE_VERSION (rows of older versions of a stream are no more). Others are
named once and passed over. Records are the many, so they are left as the lines that they are.
"""

from typing import Any

import msgspec


class Schema(msgspec.Struct, tag="SCHEMA", tag_field="type"):
    """What the records of a stream look like: a JSON schema, the fields that identify one, those that grow with time."""

    stream: str
    schema: dict[str, Any]
    key_properties: list[str] | None = None
    bookmark_properties: list[str] | str | None = None


class Line(msgspec.Struct, tag="RECORD", tag_field="type"):
    """A RECORD of which no more than its stream was looked at."""

    stream: str
    record: msgspec.Raw
    version: int | None = None


class State(msgspec.Struct, tag="STATE", tag_field="type"):
    """Everything before it needs not be fetched again. `value` is the tap's own affair."""

    value: msgspec.Raw


class ActivateVersion(msgspec.Struct, tag="ACTIVATE_VERSION", tag_field="type"):
    """The rows of `stream` with another version than this are no more."""

    stream: str
    version: int


class TapExit(msgspec.Struct, tag="TAP_EXIT", tag_field="type"):
    """How the tap ended. No tap writes it: whoever starts one appends it, for a pipe tells nobody."""

    exit_code: int


class Other(msgspec.Struct):
    """A message of a type that the specification does not know."""

    type: str


Message = Schema | Line | State | ActivateVersion | TapExit | Other

_decode = msgspec.json.Decoder(Schema | Line | State | ActivateVersion | TapExit).decode
_decode_other = msgspec.json.Decoder(Other).decode
_KNOWN = ("SCHEMA", "RECORD", "STATE", "ACTIVATE_VERSION", "TAP_EXIT")
_EMPTY = (b"", b"null", b"{}")


def decode(line: bytes) -> Message:
    """The message on a line. Raises ValueError that says what is wrong with it."""
    try:
        return _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        try:
            other = _decode_other(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise ValueError(f"not a Singer message: {problem}") from None
        if other.type in _KNOWN:
            raise ValueError(f"not a {other.type}: {problem}") from None
        return other


def is_empty(state: bytes) -> bool:
    """Whether a state says nothing; many taps begin with one, which must not undo what is known."""
    return state.strip().replace(b" ", b"") in _EMPTY
