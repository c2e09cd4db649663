"""The proof that a server works: a real completion, over plain HTTP, with the address and the key that an agent gets."""

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from launcher import tool_call
from launcher.endpoint import Endpoint
from launcher.engines.base import Call
from launcher.errors import LauncherError
from launcher.llm import LARGEST_OUTPUT
from launcher.tool_call import Refusal, Request, ToolProof, Turn, joined

QUESTION = "What is the capital of France?"
ANSWER_TOKENS = 48
# A CPU may take its time for a first answer; a server that generates nothing for so long is not one.
PATIENCE = 120.0
_NOT_TAKEN = {http.client.BAD_REQUEST, http.client.UNPROCESSABLE_ENTITY}


@dataclass(frozen=True, slots=True)
class Proof:
    """A model's own words and the seconds that they took."""

    text: str
    seconds: float


def healthy(base_url: str, path: str, *, timeout: float = 2.0) -> bool:
    """Whether the server says that it accepts requests; no answer at all is a no."""
    try:
        with _connection(base_url, timeout) as connection:
            connection.request("GET", path)
            return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False


def context(base_url: str, api_key: str, model: str) -> int:
    """The context length in tokens that the engine reports for `model`; raises LauncherError if it does not serve it."""
    answer = _json(base_url, api_key, "/v1/models", None, timeout=PATIENCE)
    for each in answer.get("data", []):
        if each.get("id") == model:
            return int(each["max_model_len"])
    raise LauncherError(f"the server at {base_url} does not serve {model}")


def prove(endpoint: Endpoint, *, timeout: float = PATIENCE, tokens: int = ANSWER_TOKENS) -> Proof:
    """Ask the model a question; raises LauncherError where no words come back within `timeout` seconds."""
    begun = time.monotonic()
    body = {
        "model": endpoint.model,
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": tokens,
        "temperature": 0,
    }
    answer = _json(endpoint.base_url, endpoint.api_key, "/v1/chat/completions", body, timeout=timeout)
    text = (answer["choices"][0]["message"].get("content") or "").strip() if answer.get("choices") else ""
    if not text:
        raise LauncherError("the server answered a question with no words", hint="its log may tell why")
    return Proof(text=text, seconds=time.monotonic() - begun)


def tell(base_url: str, api_key: str, call: Call, *, timeout: float = PATIENCE) -> None:
    """Tell the engine itself to do something; raises LauncherError unless it says that it has."""
    headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}
    with _connection(base_url, timeout) as connection, _told_plainly(connection):
        connection.request("POST", call.path, None if call.body is None else json.dumps(call.body), headers)
        _checked(connection.getresponse(), call.path)


def tools(endpoint: Endpoint, *, timeout: float = PATIENCE) -> ToolProof:
    """Whether the model calls a tool and goes on with its result; raises LauncherError where nobody answers."""

    def ask(request: Request) -> Turn | Refusal:
        body = {
            "model": endpoint.model,
            "messages": request.messages,
            "tools": request.tools,
            "tool_choice": request.choice,
            "stream": True,
            "max_tokens": tool_call.ANSWER_TOKENS,
            "temperature": 0,
        }
        with _connection(endpoint.base_url, timeout) as connection, _told_plainly(connection):
            response = _send(connection, endpoint.api_key, "/v1/chat/completions", body)
            if response.status in _NOT_TAKEN:
                return Refusal(_refusal(response))
            return joined(_deltas(_checked(response, "/v1/chat/completions")))

    return tool_call.prove(ask)


def stream(
    endpoint: Endpoint, messages: list[dict[str, str]], *, timeout: float = PATIENCE, temperature: float | None = None
) -> Iterator[str]:
    """The words of an answer to a conversation, as they come; raises LauncherError where it breaks off.

    It is no longer than an agent's may be: a small model may talk until its window is full. `temperature` None is its own.
    """
    longest = min(LARGEST_OUTPUT, endpoint.context // 4)
    body: dict[str, Any] = {"model": endpoint.model, "messages": messages, "stream": True, "max_tokens": longest}
    if temperature is not None:
        body["temperature"] = temperature
    with _connection(endpoint.base_url, timeout) as connection, _told_plainly(connection):
        for delta in _deltas(_post(connection, endpoint.api_key, "/v1/chat/completions", body)):
            yield delta.get("content") or ""


def _deltas(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """The pieces of a streamed answer; raises LauncherError where it ends before its end."""
    for line in response:
        event = line.decode().strip().removeprefix("data:").strip()
        if event == "[DONE]":
            return
        if not event:
            continue
        told = json.loads(event)
        if "error" in told:
            raise LauncherError(f"the model stopped with an error: {told['error']}")
        for choice in told.get("choices", []):
            yield choice["delta"]
    raise LauncherError("the answer broke off", hint="`launcher ps` shows whether the model still runs")


def _json(base_url: str, api_key: str, path: str, body: dict[str, Any] | None, *, timeout: float) -> dict[str, Any]:
    with _connection(base_url, timeout) as connection, _told_plainly(connection):
        answer = json.loads(_post(connection, api_key, path, body).read())
    if not isinstance(answer, dict):
        raise LauncherError(f"{path} answered something else than an object")
    return answer


def _post(
    connection: http.client.HTTPConnection, api_key: str, path: str, body: dict[str, Any] | None
) -> http.client.HTTPResponse:
    return _checked(_send(connection, api_key, path, body), path)


def _send(
    connection: http.client.HTTPConnection, api_key: str, path: str, body: dict[str, Any] | None
) -> http.client.HTTPResponse:
    # A fallback's answer would prove nothing of the model that is asked, and leave this machine.
    own = {"X-Launcher-Fallback": "none"}
    headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json", **own}
    connection.request("POST" if body else "GET", path, json.dumps(body) if body else None, headers)
    return connection.getresponse()


def _checked(response: http.client.HTTPResponse, path: str) -> http.client.HTTPResponse:
    if response.status != http.client.OK:
        raise LauncherError(f"{path} answered {_refusal(response)}")
    return response


def _refusal(response: http.client.HTTPResponse) -> str:
    text = response.read(2000).decode(errors="replace")
    return f"{response.status}: {' '.join(text.split())[:300]}"


@contextmanager
def _told_plainly(connection: http.client.HTTPConnection) -> Iterator[None]:
    """Whatever goes wrong on the way, from the connection to the last byte, as one line."""
    where = f"{connection.host}:{connection.port}"
    try:
        yield
    except TimeoutError:
        raise LauncherError(f"no answer from {where} within {connection.timeout:.0f} s") from None
    except (OSError, http.client.HTTPException) as error:
        raise LauncherError(
            f"the connection to {where} broke off: {' '.join(str(error).split()) or type(error).__name__}"
        ) from None
    except ValueError:
        raise LauncherError(f"{where} answered something else than JSON") from None


@contextmanager
def _connection(base_url: str, timeout: float) -> Iterator[http.client.HTTPConnection]:
    """A direct connection: a proxy that the environment names has no business between us and our own server."""
    parts = urlsplit(base_url)
    with closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)) as connection:
        yield connection
