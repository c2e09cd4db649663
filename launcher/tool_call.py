"""The proof that a model calls tools: two turns with one tool, judged. Decisions only; who asks is passed in."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

Choice = Literal["auto", "required"]
Verdict = Literal["parsed", "text", "broken", "refused"]

TOOL = "execute_bash"
# Long enough for a call, short enough for a CPU.
ANSWER_TOKENS = 256
_COMMAND = "uname -m"
_PRINTED = "x86_64"
_TOOLS = (
    {
        "type": "function",
        "function": {
            "name": TOOL,
            "description": "Run a command in the terminal and give back what it printed.",
            "parameters": {
                "type": "object",
                "properties": {"command": {"type": "string", "description": "the command line"}},
                "required": ["command"],
                "additionalProperties": False,
            },
        },
    },
)
_QUESTION = f"Run `{_COMMAND}` with the tool {TOOL}, then say what it printed."
# How calls look that nobody has taken out of the text: tags and forms of the parsers of both engines.
_TRACES = ("<tool_call", "<function", "<|tool", "[TOOL_CALLS]", "functools[", "<|python_tag|>", f'"{TOOL}"', f"{TOOL}(")


@dataclass(frozen=True, slots=True)
class Call:
    """A call as the server told it: `arguments` is JSON, if the model wrote any."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Turn:
    """What came back of one request: words, calls, or both."""

    text: str
    calls: tuple[Call, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that the server did not take, in its words."""

    reason: str


@dataclass(frozen=True, slots=True)
class Request:
    """The parts of a chat completion that the proof decides."""

    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]]
    choice: Choice


@dataclass(frozen=True, slots=True)
class ToolProof:
    """What became of a call: `choice` is what it took, `said` the evidence in the model's or the server's words."""

    verdict: Verdict
    choice: Choice
    said: str

    @property
    def works(self) -> bool:
        return self.verdict == "parsed"

    @property
    def meaning(self) -> str:
        """What it means, in one line for people."""
        return _MEANINGS[self.verdict, self.choice]

    @property
    def remedy(self) -> str:
        """What to do about it, "" where nothing is wrong."""
        return _REMEDIES[self.verdict, self.choice]

    def native(self, *, planned: bool) -> bool:
        """Whether an agent shall send tools as such: what was seen counts, else what the profile says of the server."""
        return {"parsed": True, "refused": False}.get(self.verdict, planned)


_NEEDED = "the server needs the model's tool parser; without one OpenHands puts its tools into the prompt"
_MEANINGS: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("parsed", "auto"): "it calls a tool by itself, and the call is read",
        ("parsed", "required"): "the server reads calls, but the model made one only when it had to",
        ("text", "auto"): "its call came back as text: no parser reads it",
        ("text", "required"): "it answers with words and makes no call, even when it has to",
        ("broken", "auto"): "it calls a tool, with arguments that are not what the tool takes",
        ("broken", "required"): "made to call a tool, it writes arguments that are not what the tool takes",
        ("refused", "auto"): "the server refuses tools",
        ("refused", "required"): "the server refuses tools that must be called",
    }
)
_LARGER = "an agent will mostly get words from it: choose a model that is made for agents (`launcher models`)"
_REMEDIES: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("parsed", "auto"): "",
        ("parsed", "required"): _LARGER,
        ("text", "auto"): _NEEDED,
        ("text", "required"): _LARGER,
        ("broken", "auto"): _LARGER,
        ("broken", "required"): _LARGER,
        ("refused", "auto"): _NEEDED,
        ("refused", "required"): _LARGER,
    }
)


def prove(ask: Callable[[Request], Turn | Refusal]) -> ToolProof:
    """Ask for a call, give its result, and judge: first as agents ask, then so that the model must call."""
    proof = _tried(ask, "auto")
    if proof.verdict in {"parsed", "refused"} or _looks_like_a_call(proof.said):
        return proof
    forced = _tried(ask, "required")
    return ToolProof(proof.verdict, "required", proof.said) if forced.verdict == "refused" else forced


def joined(deltas: Iterable[Mapping[str, Any]]) -> Turn:
    """A turn from the pieces of a stream, whose calls come in parts told apart by their index."""
    text = ""
    parts: dict[int, dict[str, str]] = {}
    for delta in deltas:
        text += delta.get("content") or ""
        for piece in delta.get("tool_calls") or ():
            call = parts.setdefault(piece.get("index") or 0, {"id": "", "name": "", "arguments": ""})
            function = piece.get("function") or {}
            call["id"] = call["id"] or piece.get("id") or ""
            call["name"] = call["name"] or function.get("name") or ""
            call["arguments"] += function.get("arguments") or ""
    return Turn(text, tuple(Call(**parts[index]) for index in sorted(parts)))


def _tried(ask: Callable[[Request], Turn | Refusal], choice: Choice) -> ToolProof:
    messages: list[Mapping[str, Any]] = [{"role": "user", "content": _QUESTION}]
    turn = ask(Request(messages, _TOOLS, choice))
    if isinstance(turn, Refusal):
        return ToolProof("refused", choice, turn.reason)
    if not turn.calls:
        return ToolProof("text", choice, turn.text)
    call = turn.calls[0]
    if fault := _fault(call):
        return ToolProof("broken", choice, fault)
    answer = ask(Request([*messages, _made(call), _result(call)], _TOOLS, "auto"))
    if isinstance(answer, Refusal):
        return ToolProof("refused", choice, f"the call's result: {answer.reason}")
    return ToolProof("parsed", choice, answer.text or f"{call.name}({call.arguments})")


def _fault(call: Call) -> str:
    """What is wrong with a call, "" for nothing."""
    if call.name != TOOL:
        return f"it called {call.name or 'nothing'}"
    try:
        arguments = json.loads(call.arguments)
    except ValueError:
        return f"arguments that are no JSON: {call.arguments[:200]}"
    if not isinstance(arguments, dict) or not isinstance(arguments.get("command"), str):
        return f"arguments without a command: {call.arguments[:200]}"
    return ""


def _made(call: Call) -> Mapping[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": call.id, "type": "function", "function": function}]}


def _result(call: Call) -> Mapping[str, Any]:
    return {"role": "tool", "tool_call_id": call.id, "content": _PRINTED}


def _looks_like_a_call(text: str) -> bool:
    return any(trace in text for trace in _TRACES)
