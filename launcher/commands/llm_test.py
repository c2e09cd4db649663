"""`launcher llm test`: asks a model as OpenHands does, through LiteLLM, whether what its configuration claims is so."""

import base64
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from launcher import asking, litellm_list, probe, telling
from launcher.asking import Patience, RequestError
from launcher.errors import LauncherError
from launcher.llm import LLMConfig
from launcher.providers import PROVIDERS
from launcher.tool_call import ANSWER_TOKENS, Refusal, Request, Turn, joined, prove
from launcher.world import World

if TYPE_CHECKING:
    from rich.console import RenderableType

State = Literal["pass", "warn", "fail", "skip"]
_MARKS = {"pass": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red"), "skip": ("-", "dim")}
_REFUSED = (400, 422)
_PICTURE_SIDE = 64


@dataclass(frozen=True, slots=True)
class Check:
    """One claim and what became of it."""

    name: str
    state: State
    said: str
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class LLMTestResult:
    """All checks of one configuration."""

    name: str
    model: str
    checks: tuple[Check, ...]

    @property
    def exit_code(self) -> int:
        return 1 if any(check.state == "fail" for check in self.checks) else 0

    def json(self) -> object:
        checks = [
            {"name": each.name, "state": each.state, "said": each.said, "seconds": round(each.seconds, 3)}
            for each in self.checks
        ]
        return {"name": self.name, "model": self.model, "checks": checks}

    def text(self) -> "RenderableType":
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 1))
        for _ in range(3):
            table.add_column(overflow="fold")
        for check in self.checks:
            mark, colour = _MARKS[check.state]
            took = f" ({check.seconds:.1f} s)" if check.seconds else ""
            table.add_row(Text(mark, colour), check.name, Text(check.said + took))
        return Group(Text.assemble((self.name, "bold"), f"  {self.model}"), table)


def run(world: World, name: str, *, patience: Patience | None = None) -> LLMTestResult:
    """Ask all there is to ask; a first answer that does not come is a result too, and the rest is not asked then."""
    told = telling.told(world, name)
    llm = told.llm
    if llm.local and told.state != "ready":
        raise LauncherError(f"{name} is not running", hint=f"`launcher up {name}` starts it")
    _refuse_incomplete(world, llm)
    calm = patience or Patience(tell=world.progress.say)
    return LLMTestResult(name, llm.model, tuple(_checks(world, llm, calm)))


def _refuse_incomplete(world: World, llm: LLMConfig) -> None:
    provider = PROVIDERS.get(llm.provider)
    if (provider is None or provider.key) and not llm.api_key:
        raise LauncherError(f"{llm.name} has no key", hint=f"launcher llm edit {llm.name} --new-key")
    if provider and (missing := [each for each in provider.environment if not world.env.get(each)]):
        raise LauncherError(f"{provider.title} needs {', '.join(missing)} in the environment", hint=f"see {provider.guide}")


def _checks(world: World, llm: LLMConfig, patience: Patience) -> Iterator[Check]:
    world.progress.phase("proof")
    first = _completion(llm, patience)
    yield first
    if first.state == "fail":
        return
    yield _streaming(llm, patience)
    yield _tools(llm, patience)
    yield _vision(llm, patience)
    yield _window(llm)


def _completion(llm: LLMConfig, patience: Patience) -> Check:
    begun = time.monotonic()
    request = {"messages": [{"role": "user", "content": probe.QUESTION}], **_tokens(llm, probe.ANSWER_TOKENS)}
    try:
        answer = asking.ask(llm, request, patience=patience)
    except RequestError as error:
        times = f" after {error.attempts} attempts" if error.attempts > 1 else ""
        return Check("completion", "fail", f"no answer{times}: {error}", time.monotonic() - begun)
    message = answer["choices"][0]["message"]
    text = _short(message.get("content") or message.get("reasoning_content") or "")
    return Check("completion", "pass" if text else "warn", f"“{text}”" if text else "no words", time.monotonic() - begun)


def _streaming(llm: LLMConfig, patience: Patience) -> Check:
    request = {"messages": [{"role": "user", "content": probe.QUESTION}], **_tokens(llm, probe.ANSWER_TOKENS)}
    try:
        pieces = asking.stream(llm, request, patience=patience)
    except RequestError as error:
        return Check("streaming", "fail", str(error))
    words = [at for at, delta in pieces if delta.get("content") or delta.get("reasoning_content")]
    if not words:
        return Check("streaming", "warn", "the stream ends without words")
    return Check("streaming", "pass", f"first word after {words[0]:.2f} s, {len(words)} pieces", pieces[-1][0])


def _tools(llm: LLMConfig, patience: Patience) -> Check:
    def ask(request: Request) -> Turn | Refusal:
        body = {"messages": list(request.messages), "tools": list(request.tools), "tool_choice": request.choice}
        try:
            pieces = asking.stream(llm, {**body, **_tokens(llm, ANSWER_TOKENS)}, patience=patience)
        except RequestError as error:
            if error.fault.status in _REFUSED:
                return Refusal(str(error))
            raise
        return joined(delta for _, delta in pieces)

    begun = time.monotonic()
    try:
        proof = prove(ask)
    except RequestError as error:
        return Check("tool call", "fail", str(error), time.monotonic() - begun)
    claimed_in_vain = proof.verdict == "refused" and llm.native_tool_calling
    state: State = "fail" if claimed_in_vain else "pass" if proof.works and not proof.remedy else "warn"
    return Check("tool call", state, "; ".join(filter(None, (proof.meaning, proof.remedy))), time.monotonic() - begun)


def _vision(llm: LLMConfig, patience: Patience) -> Check:
    listed = litellm_list.look_up(llm.model)
    claimed = llm.disable_vision is False or (llm.disable_vision is None and bool(listed and listed.vision))
    if not claimed:
        return Check("vision", "skip", "not claimed")
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(_red_square()).decode()}"}}
    question = {"type": "text", "text": "Which colour is this square? One word."}
    begun = time.monotonic()
    try:
        request = {"messages": [{"role": "user", "content": [question, picture]}], **_tokens(llm, probe.ANSWER_TOKENS)}
        answer = asking.ask(llm, request, patience=patience)
    except RequestError as error:
        return Check("vision", "fail", str(error), time.monotonic() - begun)
    text = _short(answer["choices"][0]["message"].get("content") or "")
    seen = "red" in text.lower()
    return Check("vision", "pass" if seen else "warn", f"a red square: “{text}”", time.monotonic() - begun)


def _window(llm: LLMConfig) -> Check:
    """A claim is held against what the server says, else against LiteLLM's list: a prompt of that length would cost a lot."""
    if llm.max_input_tokens is None:
        return Check("window", "skip", "not claimed: the agent takes it from LiteLLM's list, if the model is on it")
    claimed = llm.max_input_tokens + (llm.max_output_tokens or 0 if llm.local or llm.provider == "compatible" else 0)
    served, source = asking.served_window(llm), "the server"
    if served is None:
        listed, source = litellm_list.look_up(llm.model), "LiteLLM's list"
        served = listed.max_input_tokens if listed else None
    if served is None:
        return Check("window", "skip", f"{claimed:,} tokens are claimed, and nobody says how many there are")
    told = f"{claimed:,} tokens are claimed, {source} says {served:,}"
    return Check("window", "pass" if claimed <= served else "fail", told)


def _tokens(llm: LLMConfig, most: int) -> dict[str, int]:
    return {"max_tokens": min(most, llm.max_output_tokens or most)}


def _red_square() -> bytes:
    """A PNG of 64 by 64 red pixels."""
    rows = (b"\0" + b"\xff\0\0" * _PICTURE_SIDE) * _PICTURE_SIDE
    header = struct.pack(">IIBBBBB", _PICTURE_SIDE, _PICTURE_SIDE, 8, 2, 0, 0, 0)
    parts: Any = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    chunks = (struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _short(text: str, limit: int = 120) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[:limit]}…"
