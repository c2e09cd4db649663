"""What is read of a request's body: the model and whether the answer is a stream. The rest is only gone over."""

import hashlib

import msgspec


class Asked(msgspec.Struct, frozen=True):
    """The two fields that decide where a request goes and how it waits; "" where no model is named."""

    model: str | None = None
    stream: bool | None = None


class Begun(msgspec.Struct, frozen=True):
    """How a conversation begins, whichever of the APIs asks."""

    system: msgspec.Raw = msgspec.Raw()
    messages: list[msgspec.Raw] = []
    input: msgspec.Raw = msgspec.Raw()
    prompt: msgspec.Raw = msgspec.Raw()


# Not strict: the engines take "true" and 1 for true as well.
_asked = msgspec.json.Decoder(Asked, strict=False)
_begun = msgspec.json.Decoder(Begun)
_refusal = msgspec.json.Decoder(dict[str, object])
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read(body: bytes) -> Asked | str:
    """The fields, or what is wrong with the body."""
    try:
        return _asked.decode(body)
    except msgspec.ValidationError as error:
        return f"the body is not a request: {error}"
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "the body is not JSON"
    except RecursionError:
        return "the body is nested too deeply"


# Messages and bytes that stay the same over a session's turns: the system prompt alone is that of all sessions of an agent.
_OPENING, _TEXT = 2, 4096


def prefix(body: bytes) -> bytes:
    """What the turns of one session have in common, as 8 bytes: system prompt and first question, or how the prompt begins.

    b"" where the body has neither.
    """
    try:
        begun = _begun.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return b""
    first = begun.messages[:_OPENING] if begun.messages else [bytes(begun.input)[:_TEXT] or bytes(begun.prompt)[:_TEXT]]
    text = b"\0".join([bytes(begun.system), *map(bytes, first)])
    return hashlib.blake2b(text, digest_size=8).digest() if text.strip(b"\0") else b""


def with_model(body: bytes, name: str) -> bytes:
    """The body with another model name; every other value keeps its bytes. For a body that `read` has taken."""
    fields = _fields.decode(body)
    fields["model"] = msgspec.Raw(msgspec.json.encode(name))
    return msgspec.json.encode(fields)


def message(answer: bytes) -> str | None:
    """What an engine says in an error, whichever of the usual forms it has; None if it says nothing."""
    try:
        fields = _refusal.decode(answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    inner = fields.get("error", fields)
    if isinstance(inner, dict):
        inner = inner.get("message", inner.get("detail"))
    return inner if isinstance(inner, str) else None
