"""A provider of models on this machine: answers as it is told to in the provider's form, and remembers what it was asked."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.on_loopback import on_loopback

WORDS = "The capital of France is Paris."
HANG = 0


@dataclass(frozen=True)
class Asked:
    """A request as it came in; header names are in small letters."""

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any


@dataclass
class ModelServer:
    """Gives these statuses in turn and 200 from then on; HANG never answers. `refusal` is what an error says.

    `manner` is what it does with tools: call, text (the call is left in the words), shy (only when it must), words, broken,
    refuse.
    """

    statuses: list[int] = field(default_factory=list)
    refusal: str = "no"
    headers: Mapping[str, str] = field(default_factory=dict)
    context: int = 32_768
    manner: str = "call"
    asked: list[Asked] = field(default_factory=list)
    address: str = ""

    def answer(self, asked: Asked) -> tuple[int, Any]:
        status = self.statuses.pop(0) if self.statuses else 200
        if status != 200:
            return status, {"error": {"message": self.refusal, "type": "x", "code": None}}
        if self.manner == "refuse" and asked.body and asked.body.get("tools"):
            return 400, {"error": {"message": self.refusal, "type": "BadRequestError", "code": 400}}
        if asked.path.endswith("/models"):
            return 200, {"object": "list", "data": [{"id": "m", "object": "model", "max_model_len": self.context}]}
        if asked.path.endswith("/messages"):
            return 200, _ANTHROPIC
        if "generateContent" in asked.path:
            return 200, _GEMINI
        return 200, {**_OPENAI, "choices": [{"index": 0, "finish_reason": "stop", "message": self.message(asked.body)}]}

    def message(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Words, or a call of the first tool until its result is in the conversation."""
        tools = body.get("tools")
        if not tools or any(each["role"] == "tool" for each in body["messages"]):
            return {"role": "assistant", "content": WORDS}
        name = tools[0]["function"]["name"]
        if self.manner == "text":
            return {"role": "assistant", "content": f'<tool_call>{{"name":"{name}"}}</tool_call>'}
        if self.manner == "words" or (self.manner == "shy" and body["tool_choice"] == "auto"):
            return {"role": "assistant", "content": WORDS}
        function = {"name": name, "arguments": '{"comm' if self.manner == "broken" else '{"command": "uname -m"}'}
        return {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": function}]}


_OPENAI = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "service_tier": "auto",
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}
_ANTHROPIC = {
    "id": "x",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": WORDS}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 1, "output_tokens": 1},
}
_GEMINI = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": WORDS}]}, "finishReason": "STOP", "index": 0}],
    "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2},
}


@contextmanager
def serving(server: ModelServer) -> Iterator[ModelServer]:
    """The server on a free port of loopback, its address in `address`, until the block ends."""
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(parts.path, dict(parse_qsl(parts.query)), headers, json.loads(body) if body else None)
            server.asked.append(asked)
            status, content = server.answer(asked)
            if status == HANG:
                ended.wait(30)
                return
            streamed = status == 200 and asked.body and asked.body.get("stream")
            text = _events(content) if streamed else json.dumps(content)
            self.send_response(status)
            self.send_header("Content-Type", "text/event-stream" if streamed else "application/json")
            self.send_header("Content-Length", str(len(text.encode())))
            for name, value in server.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, _format: str, *_args: object) -> None: ...

    with on_loopback(Handler) as port:
        server.address = f"http://127.0.0.1:{port}"
        try:
            yield server
        finally:
            ended.set()


def _events(content: Any) -> str:
    """A completion as a stream: its words one by one, its calls in two parts each."""
    message = content["choices"][0]["message"]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": f"{word} "} for word in (message.get("content") or "").split()]
    for index, call in enumerate(message.get("tool_calls") or ()):
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        head = {"index": index, "id": call["id"], "type": "function", "function": {"name": name, "arguments": arguments[:5]}}
        deltas += [{"tool_calls": [head]}, {"tool_calls": [{"index": index, "function": {"arguments": arguments[5:]}}]}]
    head = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    chunks = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": content["choices"][0]["finish_reason"]}]})
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
