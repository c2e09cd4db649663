"""An engine in one file: speaks vLLM's HTTP and prints vLLM's log lines, answers one sentence, and fails as it is told to.

    python tests/stub_engine.py --host 127.0.0.1 --port 8400 --model NAME --max-model-len 8192 [faults]

The key comes from VLLM_API_KEY. Options of vLLM that it does not know are ignored.
"""

import argparse
import json
import mmap
import os
import signal
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, NoReturn

ANSWER = "The capital of France is Paris."
KV_TOKENS = 46_592
# An argument that no engine has: the process is a child, an engine core.
CHILD = "--stub-child"


@dataclass(frozen=True)
class Options:
    host: str
    port: int
    model: str
    context: int
    api_key: str | None
    die: str | None
    die_after: float
    hang: bool
    mute: bool
    wrong_context: bool
    slow_start: float
    children: int
    child_flags: tuple[str, ...]


def parse(argv: Sequence[str], env: Mapping[str, str]) -> Options:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--model", default="stub")
    parser.add_argument("--served-model-name")
    parser.add_argument("--max-model-len", type=int, default=8192)
    parser.add_argument("--die", metavar="TEXT", help="print the text as log lines and exit with 1")
    parser.add_argument("--die-after", type=float, metavar="SECONDS", help="die only then, ready or not")
    parser.add_argument("--hang", action="store_true", help="never become healthy")
    parser.add_argument("--mute", action="store_true", help="be healthy, and never answer a completion")
    parser.add_argument("--wrong-context", action="store_true", help="report half of the context that was asked for")
    parser.add_argument("--slow-start", type=float, default=0.0, metavar="SECONDS", help="load the model for that long")
    parser.add_argument("--children", type=int, default=0, metavar="N", help="processes that live on when this one is killed")
    parser.add_argument("--stubborn", action="store_true", help="children ignore TERM")
    parser.add_argument("--blank", action="store_true", help="children wipe their environment")
    parser.add_argument("--detach", action="store_true", help="children are in sessions of their own")
    parser.add_argument("--environment", metavar="DIR", help="children map a file from there")
    known, _vllm = parser.parse_known_args(argv)
    flags = [flag for flag in ("stubborn", "blank", "detach") if getattr(known, flag)]
    return Options(
        host=known.host,
        port=known.port,
        model=known.served_model_name or known.model,
        context=known.max_model_len,
        api_key=env.get("VLLM_API_KEY"),
        die=known.die,
        die_after=known.die_after or 0.0,
        hang=known.hang,
        mute=known.mute,
        wrong_context=known.wrong_context,
        slow_start=known.slow_start,
        children=known.children,
        child_flags=(*flags, *([f"environment={known.environment}"] if known.environment else [])),
    )


def serve(options: Options) -> None:
    log("APIServer", f"vLLM API server version 0.32.0, model {options.model}")
    log("APIServer", f"Using max model len {options.context}")
    server = Server(options)
    cores = [start_child(options.child_flags) for _ in range(options.children)]
    core = cores[0] if cores else os.getpid()
    for pid in cores:
        log("EngineCore", "Initializing a V1 LLM engine (v0.32.0)", pid=pid)
    if options.die is not None and options.die_after:
        threading.Timer(options.die_after, die, (options.die, core)).start()
    elif options.die is not None:
        die(options.die, core)
    load(options, core)
    if options.hang:
        threading.Event().wait()
    log("APIServer", f"Starting vLLM server on http://{options.host}:{options.port}")
    server.server_activate()
    say(f"INFO:     Started server process [{os.getpid()}]")
    say("INFO:     Application startup complete.")
    server.serve_forever()


def load(options: Options, core: int) -> None:
    log("Worker", f"Starting to load model {options.model}...", pid=core)
    say("Loading safetensors checkpoint shards:   0% Completed | 0/1 [00:00<?, ?it/s]")
    time.sleep(options.slow_start)
    say("Loading safetensors checkpoint shards: 100% Completed | 1/1 [00:01<00:00,  1.33s/it]")
    log("Worker", f"Loading weights took {options.slow_start:.2f} seconds", pid=core)
    concurrency = f"Maximum concurrency for {options.context:,} tokens per request: {KV_TOKENS / options.context:.2f}x"
    log("EngineCore", f"CPU KV cache size: {KV_TOKENS:,} tokens, {concurrency}", pid=core)
    log("EngineCore", "init engine (profile, create kv cache, warmup model) took 1.57 s", pid=core)


def die(text: str, core: int) -> NoReturn:
    for line in text.splitlines():
        log("EngineCore", line, pid=core, level="ERROR")
    cause = "Engine core initialization failed. See root cause above. Failed core proc(s): {}"
    say(f"(APIServer pid={os.getpid()}) RuntimeError: {cause}")
    os._exit(1)


def log(role: str, text: str, *, pid: int | None = None, level: str = "INFO") -> None:
    say(f"({role} pid={pid or os.getpid()}) {level} {time.strftime('%m-%d %H:%M:%S')} [stub.py:1] {text}")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Server(ThreadingHTTPServer):
    """Binds at once and listens when it is told to, as vLLM does."""

    daemon_threads = True

    def __init__(self, options: Options) -> None:
        self.options = options
        super().__init__((options.host, options.port), Handler, bind_and_activate=False)
        try:
            self.server_bind()
        except OSError as error:
            say(f"(APIServer pid={os.getpid()}) OSError: [Errno {error.errno}] {error.strerror}")
            sys.exit(1)

    def server_bind(self) -> None:
        # Not HTTPServer's, which asks for the machine's full name.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.options.host, self.options.port


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server
    routes: ClassVar[dict[tuple[str, str], str]] = {
        ("GET", "/health"): "health",
        ("GET", "/v1/models"): "models",
        ("POST", "/v1/chat/completions"): "chat",
    }

    def do_GET(self) -> None:
        self.dispatch()

    def do_POST(self) -> None:
        self.dispatch()

    def dispatch(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        key = self.server.options.api_key
        if self.path.startswith("/v1") and key and self.headers.get("Authorization") != f"Bearer {key}":
            self.answer(401, {"error": "Unauthorized"})
            return
        route = self.routes.get((self.command, self.path))
        if route == "health":
            self.answer(200, None)
        elif route == "models":
            self.answer(200, self.models())
        elif route == "chat":
            self.chat(json.loads(body))
        else:
            self.answer(404, {"detail": "Not Found"})

    def models(self) -> dict[str, Any]:
        options = self.server.options
        context = options.context // 2 if options.wrong_context else options.context
        entry = {"id": options.model, "object": "model", "owned_by": "vllm", "root": options.model, "max_model_len": context}
        return {"object": "list", "data": [entry]}

    def chat(self, request: dict[str, Any]) -> None:
        options = self.server.options
        if options.mute:
            threading.Event().wait()
        if request.get("model") != options.model:
            message = f"The model `{request.get('model')}` does not exist."
            error = {"message": message, "type": "NotFoundError", "param": "model", "code": 404}
            self.answer(404, {"error": error})
        elif request.get("stream"):
            self.stream(request)
        else:
            answer = {"role": "assistant", "content": ANSWER, "tool_calls": []}
            choice = {"index": 0, "message": answer, "finish_reason": "stop"}
            self.answer(200, {**self.head("chat.completion"), "choices": [choice], "usage": usage(request)})

    def stream(self, request: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        head = self.head("chat.completion.chunk")
        first, *rest = ANSWER.split(" ")
        deltas: list[dict[str, str]] = [{"role": "assistant", "content": ""}, {"content": first}]
        deltas += [{"content": f" {word}"} for word in rest]
        for delta in deltas:
            self.event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        self.event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        if (request.get("stream_options") or {}).get("include_usage"):
            self.event({**head, "choices": [], "usage": usage(request)})
        self.event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def event(self, content: dict[str, Any] | str) -> None:
        text = content if isinstance(content, str) else json.dumps(content)
        chunk = f"data: {text}\n\n".encode()
        self.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")

    def head(self, kind: str) -> dict[str, Any]:
        return {"id": "chatcmpl-stub", "object": kind, "created": int(time.time()), "model": self.server.options.model}

    def answer(self, status: int, content: dict[str, Any] | None) -> None:
        body = b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, _format: str, *_args: object) -> None: ...

    def log_request(self, code: int | str = "-", _size: int | str = "-") -> None:
        say(f'INFO:     {self.client_address[0]}:{self.client_address[1]} - "{self.requestline}" {code}')


def usage(request: dict[str, Any]) -> dict[str, int]:
    asked = sum(len(str(message.get("content")).split()) for message in request.get("messages", []))
    answered = len(ANSWER.split())
    return {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered}


def start_child(flags: Sequence[str]) -> int:
    """Start an engine core and wait until it is as it will be; returns its pid."""
    told, tell = os.pipe()
    child = subprocess.Popen(
        # Isolated and without site: it starts in a moment, and looks at no variable.
        [sys.executable, "-I", "-S", __file__, CHILD, str(tell), *flags],
        start_new_session="detach" in flags,
        pass_fds=(tell,),
    )
    os.close(tell)
    os.read(told, 1)
    os.close(told)
    child.returncode = 0  # so that nobody complains of a child that was not waited for: that it lives on is the point
    return child.pid


def be_child(tell: int, flags: Sequence[str]) -> None:
    if "stubborn" in flags:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "blank" in flags:
        wipe_environment()
    _mapped = [map_file(Path(flag.partition("=")[2])) for flag in flags if flag.startswith("environment=")]
    os.write(tell, b".")
    os.close(tell)
    while True:
        signal.pause()


def wipe_environment() -> None:
    """Do to /proc/PID/environ what setproctitle does: overwrite the first variables, leave some of the last."""
    start = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[47])  # env_start, proc_pid_stat(5)
    environ = Path("/proc/self/environ").read_bytes()
    wiped = environ.find(b"\0", environ.find(b"LAUNCHER_SERVER_ID="))
    with Path("/proc/self/mem").open("r+b", buffering=0) as memory:
        memory.seek(start)
        memory.write(bytes(wiped))


def map_file(folder: Path) -> mmap.mmap:
    """Map a library of the environment, as importing it would do."""
    library = folder / "libstub.so"
    if not library.exists():
        library.write_bytes(bytes(mmap.PAGESIZE))
    with library.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def main() -> None:
    if sys.argv[1:2] == [CHILD]:
        be_child(int(sys.argv[2]), sys.argv[3:])
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    serve(parse(sys.argv[1:], os.environ))


if __name__ == "__main__":
    main()
