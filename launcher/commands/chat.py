"""`launcher chat`: talk to the model in the terminal."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher import deciding, keys, probe, store
from launcher.endpoint import Endpoint
from launcher.errors import LauncherError
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class ChatResult:
    """One answer, for a question that did not come from a terminal."""

    model: str
    answer: str
    seconds: float
    exit_code: int = 0

    def json(self) -> object:
        return {"model": self.model, "text": self.answer, "seconds": round(self.seconds, 3)}

    def text(self) -> "RenderableType":
        from rich.text import Text

        return Text(self.answer)


def endpoint(world: World, name: str | None) -> Endpoint:
    """Where the running model answers; raises LauncherError if none runs."""
    key = keys.read(world.home.key) or ""
    if name in store.aliases(world.home) or name in store.remotes(world.home):
        # What it leads to, the gateway knows; so does it why that does not answer.
        return Endpoint(model=name or "", base_url=store.address(world.home), api_key=key, context=0)
    running = [
        server
        for server in store.seen(world.home)
        if name in (None, server.name) and server.state == "ready" and server.handle and world.runner.alive(server.handle)
    ]
    if not running:
        if name:
            deciding.profile_of(world, name)  # a name that is none is another fault
            raise LauncherError(f"{name} is not running", hint=f"`launcher up {name}` starts it")
        raise LauncherError("no model is running", hint="`launcher up` starts one")
    server = running[0]
    return Endpoint(model=server.name, base_url=store.address(world.home), api_key=key, context=server.context)


def run(where: Endpoint, question: str) -> ChatResult:
    """Ask once and give the whole answer, the same one each time."""
    if not question.strip():
        raise LauncherError("there is no question on stdin", hint='echo "What is 2 + 2?" | launcher chat')
    begun = time.monotonic()
    answer = "".join(probe.stream(where, [{"role": "user", "content": question}], temperature=0))
    return ChatResult(where.model, answer.strip(), time.monotonic() - begun)


def talk(where: Endpoint, ask: Callable[[], str]) -> Iterator[str]:
    """A conversation: each question that `ask` gives, answered piece by piece; an EOFError from `ask` ends it.

    An interrupt ends an answer, not the conversation; at the prompt it ends that too.
    """
    messages: list[dict[str, str]] = []
    while True:
        try:
            question = ask().strip()
        except (EOFError, KeyboardInterrupt):
            return
        if not question:
            continue
        messages.append({"role": "user", "content": question})
        answer = ""
        try:
            for piece in probe.stream(where, messages):
                answer += piece
                yield piece
        except KeyboardInterrupt:
            answer += " ..."
        yield "\n"
        messages.append({"role": "assistant", "content": answer})
