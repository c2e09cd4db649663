"""What is read of a request's body: the model and whether the answer is a stream. The rest is only gone over."""

import msgspec


class Asked(msgspec.Struct, frozen=True):
    """The two fields that decide where a request goes and how it waits; "" where no model is named."""

    model: str | None = None
    stream: bool | None = None


# Not strict: the engines take "true" and 1 for true as well.
_asked = msgspec.json.Decoder(Asked, strict=False)
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
