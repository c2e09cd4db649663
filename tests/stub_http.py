"""The HTTP of the stub engine: what vLLM 0.32 and SGLang 0.5.23 answer, with one sentence for everything."""

import json
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests import stub_dialects
from tests.stub_lines import KV_TOKENS, log, say

ANSWER = "The capital of France is Paris."
# SGLang 0.5.23, http_server.py: so long /health waits for a generation (seconds), and is a failure then.
HEALTH_TIMEOUT = 20.0
# v1/engine/exceptions.py: what vLLM answers once its core is gone.
DEAD = "EngineCore encountered an issue. See stack trace (above) for the root cause."
_LOOK = 0.01


@dataclass(frozen=True)
class Serving:
    """What is served, and to whom. `context` is what is reported; `can_sleep` as the engine was told at its start."""

    engine: str
    host: str
    port: int
    model: str
    context: int
    api_key: str | None
    can_sleep: bool
    development: bool


@dataclass
class State:
    """How it fares; faults change it while it runs.

    `mute`: healthy, and generates nothing. `hung`: accepts connections and says nothing at all. `refusing`: generation is an
    error. `dead`: its core is gone. `slow`: seconds for a token.
    """

    mute: bool = False
    hung: bool = False
    refusing: bool = False
    dead: bool = False
    asleep: bool = False
    warm: bool = False
    slow: float = 0.0
    requests: int = 0
    running: int = 0
    tokens: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Server(ThreadingHTTPServer):
    """Binds at once and listens when it is told to, as vLLM does."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, serving: Serving, state: State, *, alive: Callable[[], bool], counted: Callable[[int], None]) -> None:
        """`alive` waits until the cores answer; `counted` is told how many generations were asked for so far."""
        self.serving, self.state, self.alive, self.counted = serving, state, alive, counted
        super().__init__((serving.host, serving.port), Handler, bind_and_activate=False)
        try:
            self.server_bind()
        except OSError as error:
            log(serving.engine, "APIServer", f"OSError: [Errno {error.errno}] {error.strerror}", level="ERROR")
            sys.exit(1)

    def server_bind(self) -> None:
        # Not HTTPServer's, which asks for the machine's full name.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.serving.host, self.serving.port

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Whoever asked may have gone: no traceback for that.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.dispatch()

    def do_POST(self) -> None:
        self.dispatch()

    @property
    def state(self) -> State:
        return self.server.state

    @property
    def serving(self) -> Serving:
        return self.server.serving

    def dispatch(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        while self.state.hung:
            time.sleep(_LOOK)
        path = urlsplit(self.path).path
        if not self.allowed(path):
            self.answer(401, {"error": "Unauthorized"})
            return
        route = ROUTES[self.serving.engine].get((self.command, path))
        if route is None or (route in {Handler.sleep, Handler.wake, Handler.sleeping} and not self.serving.development):
            self.answer(404, {"detail": "Not Found"})
        else:
            route(self, json.loads(body) if body else {})

    def allowed(self, path: str) -> bool:
        """vLLM guards some paths (entrypoints/serve/middleware/authenticate.py), SGLang all but some (utils/auth.py)."""
        if self.serving.engine == "vllm":
            guarded = path.startswith(("/v1", "/v2", "/inference", "/cohere"))
        else:
            guarded = not path.startswith(("/health", "/ready", "/metrics"))
        key = self.serving.api_key
        return not guarded or not key or self.headers.get("Authorization") == f"Bearer {key}"

    def health(self, _: dict[str, Any]) -> None:
        """vLLM's asks nobody: a frozen core is healthy."""
        self.answer(503 if self.state.dead else 200, None)

    def health_generate(self, _: dict[str, Any]) -> None:
        """SGLang's generates a token, but not before its warm-up is over."""
        deadline = time.monotonic() + HEALTH_TIMEOUT
        asked = threading.Thread(target=self.server.alive, daemon=True)
        asked.start()
        while self.state.warm and time.monotonic() < deadline:
            if not asked.is_alive() and not self.stalled():
                self.answer(200, None)
                return
            time.sleep(_LOOK)
        if self.state.warm:
            what = f"Server couldn't get a response from detokenizer for last {HEALTH_TIMEOUT:.0f} seconds."
            log("sglang", "", f"Health check failed. {what}")
        self.answer(503, None)

    def models(self, _: dict[str, Any]) -> None:
        what = self.serving
        entry = {"id": what.model, "object": "model", "created": int(time.time()), "owned_by": what.engine, "root": what.model}
        self.answer(200, {"object": "list", "data": [{**entry, "parent": None, "max_model_len": what.context}]})

    def model_info(self, _: dict[str, Any]) -> None:
        self.answer(200, {"model_path": self.serving.model, "served_model_name": self.serving.model, "is_generation": True})

    def server_info(self, _: dict[str, Any]) -> None:
        told = {"context_length": self.serving.context, "max_total_num_tokens": KV_TOKENS, "version": "0.5.23"}
        self.answer(200, {**told, "served_model_name": self.serving.model, "internal_states": [{}]})

    def version(self, _: dict[str, Any]) -> None:
        self.answer(200, {"version": "0.32.0"})

    def metrics(self, _: dict[str, Any]) -> None:
        """Some of each engine's own names, as Prometheus reads them."""
        state, model = self.state, f'{{model_name="{self.serving.model}"}}'
        names = METRICS[self.serving.engine]
        values = (state.running, 0, state.running / 8, state.tokens)
        lines = [f"{name}{model} {value}" for name, value in zip(names, values, strict=True)]
        self.answer(200, "\n".join(lines) + "\n")

    def sleep(self, _: dict[str, Any]) -> None:
        level = int((parse_qs(urlsplit(self.path).query).get("level") or ["1"])[0])
        if not self.serving.can_sleep:
            self.answer(500, {"error": {"message": "Sleep mode is not enabled.", "code": 500}})
            return
        self.state.asleep = True
        self.answer(200, {"status": "sleeping", "level": level})

    def wake(self, _: dict[str, Any]) -> None:
        self.state.asleep = False
        self.answer(200, {"status": "awake", "tags": parse_qs(urlsplit(self.path).query).get("tags")})

    def remote_call(self, request: dict[str, Any]) -> None:
        self.answer(200, {"results": [request.get("method")]})

    def sleeping(self, _: dict[str, Any]) -> None:
        self.answer(200, {"is_sleeping": self.state.asleep})

    def release(self, _: dict[str, Any]) -> None:
        self.state.asleep = self.serving.can_sleep
        self.answer(200, None)

    def resume(self, _: dict[str, Any]) -> None:
        self.state.asleep = False
        self.answer(200, None)

    def chat(self, request: dict[str, Any]) -> None:
        with self.generating(request) as refused:
            if refused:
                self.answer(*refused)
            elif called := tool_call(request):
                self.give(
                    request, "chat.completion", [{"role": "assistant", "content": None, "tool_calls": [called]}], "tool_calls"
                )
            else:
                words, reason = cut(request)
                self.give(
                    request, "chat.completion", [{"role": "assistant", "content": ""}, *({"content": w} for w in words)], reason
                )

    def complete(self, request: dict[str, Any]) -> None:
        with self.generating(request) as refused:
            if refused:
                self.answer(*refused)
            else:
                words, reason = cut(request)
                self.give(request, "text_completion", words, reason)

    def message(self, request: dict[str, Any]) -> None:
        self.say(request, stub_dialects.message, stub_dialects.message_events)

    def respond(self, request: dict[str, Any]) -> None:
        self.say(request, stub_dialects.response, stub_dialects.response_events)

    def count(self, request: dict[str, Any]) -> None:
        self.answer(200, {"input_tokens": usage(request, 0)["prompt_tokens"]})

    def say(
        self,
        request: dict[str, Any],
        whole: Callable[[str, list[str], int], dict[str, Any]],
        events: Callable[[str, list[str], int], stub_dialects.Events],
    ) -> None:
        """The answer in words, whatever tools there are, in the form of one of the other dialects."""
        with self.generating(request) as refused:
            words, asked = cut(request)[0], usage(request, 0)["prompt_tokens"]
            if refused:
                self.answer(*refused)
            elif not request.get("stream"):
                self.answer(200, whole(self.serving.model, words, asked))
            else:
                self.begin_stream()
                for name, content in events(self.serving.model, words, asked):
                    self.chunk(f"event: {name}\ndata: {json.dumps(content)}\n\n")
                self.wfile.write(b"0\r\n\r\n")

    def generate(self, request: dict[str, Any]) -> None:
        """SGLang's own endpoint."""
        with self.generating({"model": self.serving.model, **request}) as refused:
            if refused:
                self.answer(*refused)
            else:
                self.answer(200, {"text": ANSWER, "meta_info": {"completion_tokens": len(ANSWER.split())}})

    @contextmanager
    def generating(self, request: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any]] | None]:
        """Count a generation and wait until the core would make it; what is answered instead, if anything."""
        with self.state.lock:
            self.state.requests += 1
            self.state.running += 1
            asked = self.state.requests
        try:
            self.server.counted(asked)
            while self.stalled():
                time.sleep(_LOOK)
            if self.serving.engine == "vllm" and request.get("model") != self.serving.model:
                yield fault(404, "NotFoundError", f"The model `{request.get('model')}` does not exist.")
            elif self.state.dead or self.state.refusing or not self.server.alive():
                yield fault(500, "InternalServerError", DEAD)
            else:
                yield None
        finally:
            with self.state.lock:
                self.state.running -= 1

    def stalled(self) -> bool:
        return (self.state.mute or self.state.asleep) and not self.state.dead

    def give(self, request: dict[str, Any], kind: str, pieces: list[Any], reason: str) -> None:
        """An answer in one piece, or streamed."""
        for _ in [] if request.get("stream") else pieces[1:]:
            time.sleep(self.state.slow)
        head = {"id": "chatcmpl-stub", "object": kind, "created": int(time.time()), "model": self.serving.model}
        used = usage(request, len(pieces))
        self.state.tokens += used["completion_tokens"]
        if request.get("stream"):
            self.stream(request, {**head, "object": f"{kind}.chunk" if kind.startswith("chat") else kind}, pieces, reason)
        elif kind.startswith("chat"):
            message = {**pieces[0], "tool_calls": pieces[0].get("tool_calls", [])}
            if len(pieces) > 1:
                message["content"] = "".join(piece["content"] for piece in pieces)
            self.answer(200, {**head, "choices": [{"index": 0, "message": message, "finish_reason": reason}], "usage": used})
        else:
            choice = {"index": 0, "text": "".join(pieces), "finish_reason": reason}
            self.answer(200, {**head, "choices": [choice], "usage": used})

    def stream(self, request: dict[str, Any], head: dict[str, Any], pieces: list[Any], reason: str) -> None:
        self.begin_stream()
        for piece in pieces:
            time.sleep(self.state.slow)
            while self.stalled():
                time.sleep(_LOOK)
            if self.state.dead:
                # What had begun cannot become a status any more (entrypoints/openai/chat_completion/serving.py).
                self.event(fault(500, "InternalServerError", DEAD)[1])
                break
            what: dict[str, Any] = {"text": piece} if isinstance(piece, str) else {"delta": piece}
            self.event({**head, "choices": [{"index": 0, **what, "finish_reason": None}]})
        else:
            last: dict[str, Any] = {"text": ""} if isinstance(pieces[0], str) else {"delta": {}}
            self.event({**head, "choices": [{"index": 0, **last, "finish_reason": reason}]})
            if (request.get("stream_options") or {}).get("include_usage"):
                self.event({**head, "choices": [], "usage": usage(request, len(pieces))})
        self.event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def event(self, content: dict[str, Any] | str) -> None:
        self.chunk(f"data: {content if isinstance(content, str) else json.dumps(content)}\n\n")

    def chunk(self, text: str) -> None:
        self.wfile.write(f"{len(text.encode()):x}\r\n".encode() + text.encode() + b"\r\n")

    def answer(self, status: int, content: dict[str, Any] | str | None) -> None:
        body = b"" if content is None else content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; version=0.0.4" if isinstance(content, str) else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, _format: str, *_args: object) -> None: ...

    def log_request(self, code: int | str = "-", _size: int | str = "-") -> None:
        line = f'INFO:     {self.client_address[0]}:{self.client_address[1]} - "{self.requestline}" {code}'
        say(line) if self.serving.engine == "vllm" else log("sglang", "", line)


Route = Callable[[Handler, dict[str, Any]], None]
OPENAI: dict[tuple[str, str], Route] = {
    ("GET", "/v1/models"): Handler.models,
    ("POST", "/v1/chat/completions"): Handler.chat,
    ("POST", "/v1/completions"): Handler.complete,
    ("POST", "/v1/messages"): Handler.message,
    ("POST", "/v1/messages/count_tokens"): Handler.count,
    ("POST", "/v1/responses"): Handler.respond,
    ("GET", "/metrics"): Handler.metrics,
}
ROUTES: dict[str, dict[tuple[str, str], Route]] = {
    # The last three only in development mode, and then for everybody (entrypoints/serve/dev/sleep/api_router.py).
    "vllm": OPENAI
    | {
        ("GET", "/health"): Handler.health,
        ("GET", "/version"): Handler.version,
        ("POST", "/sleep"): Handler.sleep,
        ("POST", "/wake_up"): Handler.wake,
        ("POST", "/collective_rpc"): Handler.remote_call,
        ("GET", "/is_sleeping"): Handler.sleeping,
    },
    "sglang": OPENAI
    | {
        ("GET", "/health"): Handler.health_generate,
        ("GET", "/health_generate"): Handler.health_generate,
        ("GET", "/model_info"): Handler.model_info,
        ("GET", "/get_model_info"): Handler.model_info,
        ("GET", "/server_info"): Handler.server_info,
        ("GET", "/get_server_info"): Handler.server_info,
        ("POST", "/generate"): Handler.generate,
        **{(how, "/release_memory_occupation"): Handler.release for how in ("GET", "POST")},
        **{(how, "/resume_memory_occupation"): Handler.resume for how in ("GET", "POST")},
    },
}
# Sequences that run and wait, the share of the KV cache in use, tokens generated.
METRICS = {
    "vllm": (
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc",
        "vllm:generation_tokens_total",
    ),
    "sglang": ("sglang:num_running_reqs", "sglang:num_queue_reqs", "sglang:token_usage", "sglang:generation_tokens_total"),
}


def fault(status: int, kind: str, message: str) -> tuple[int, dict[str, Any]]:
    """An error as both engines' OpenAI endpoints tell it."""
    return status, {"error": {"message": message, "type": kind, "param": None, "code": status}}


def cut(request: dict[str, Any]) -> tuple[list[str], str]:
    """The words of the answer, a token each, no more than asked for; and why there are no more."""
    first, *rest = ANSWER.split(" ")
    words = [first, *(f" {word}" for word in rest)]
    most = request.get("max_completion_tokens") or request.get("max_tokens") or len(words)
    return words[:most], "length" if most < len(words) else "stop"


def tool_call(request: dict[str, Any]) -> dict[str, Any] | None:
    """A call of the first tool that is offered, with something for all that it requires, unless a call was just answered."""
    last = (request.get("messages") or [{}])[-1]
    if not request.get("tools") or request.get("tool_choice") == "none" or last.get("role") == "tool":
        return None
    function = request["tools"][0]["function"]
    shape = function.get("parameters") or {}
    given = {name: example((shape.get("properties") or {}).get(name) or {}) for name in shape.get("required", [])}
    called = {"name": function["name"], "arguments": json.dumps(given)}
    return {"id": "call_stub", "type": "function", "index": 0, "function": called}


def example(shape: dict[str, Any]) -> Any:
    """A value of a JSON schema."""
    values = {"integer": 1, "number": 1.0, "boolean": True, "array": [], "object": {}}
    return (shape.get("enum") or [values.get(shape.get("type", ""), "Paris")])[0]


def usage(request: dict[str, Any], pieces: int) -> dict[str, int]:
    """Tokens, of which a word is one."""
    asked = sum(len(str(message.get("content")).split()) for message in request.get("messages", []))
    asked += len(str(request.get("prompt") or "").split())
    answered = min(pieces, len(ANSWER.split()))
    return {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered}
