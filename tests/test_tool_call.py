from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from launcher.tool_call import TOOL, Call, Refusal, Request, ToolProof, Turn, joined, prove


@dataclass
class Server:
    """Gives these answers in turn, and remembers what it was asked."""

    answers: Iterator[Turn | Refusal]
    asked: list[Request] = field(default_factory=list)

    def __call__(self, request: Request) -> Turn | Refusal:
        self.asked.append(request)
        return next(self.answers)


GOOD = Turn("", (Call("c1", TOOL, '{"command": "uname -m"}'),))
WORDS = Turn("I cannot do that.", ())
ANSWER = Turn("It printed x86_64.", ())
NO = Refusal('400: "auto" tool choice requires --enable-auto-tool-choice')


def calls(arguments: str, name: str = TOOL) -> Turn:
    return Turn("", (Call("c1", name, arguments),))


CASES = {
    "a call, its result, an answer": ([GOOD, ANSWER], ToolProof("parsed", "auto", "It printed x86_64."), True),
    "an empty answer is still a call that was read": (
        [GOOD, Turn("", ())],
        ToolProof("parsed", "auto", 'execute_bash({"command": "uname -m"})'),
        True,
    ),
    "words first, a call when it must": ([WORDS, GOOD, ANSWER], ToolProof("parsed", "required", "It printed x86_64."), True),
    "words only": ([WORDS, WORDS], ToolProof("text", "required", "I cannot do that."), False),
    "a call that nobody took out of the text": (
        [Turn('<tool_call>{"name": "execute_bash"}</tool_call>', ())],
        ToolProof("text", "auto", '<tool_call>{"name": "execute_bash"}</tool_call>'),
        False,
    ),
    "a server without a parser": ([NO], ToolProof("refused", "auto", NO.reason), False),
    "a server that takes tools and forces none": ([WORDS, NO], ToolProof("text", "required", "I cannot do that."), False),
    "a server that does not take the result": (
        [GOOD, Refusal("400: no tool role")],
        ToolProof("refused", "auto", "the call's result: 400: no tool role"),
        False,
    ),
    "arguments that are cut, then a call": (
        [calls('{"command": "un'), GOOD, ANSWER],
        ToolProof("parsed", "required", "It printed x86_64."),
        True,
    ),
    "arguments of another tool": (
        [calls('{"path": "x"}'), calls('{"path": "x"}')],
        ToolProof("broken", "required", 'arguments without a command: {"path": "x"}'),
        False,
    ),
    "a tool that is not there": (
        [calls("{}", "ls"), calls("{}", "ls")],
        ToolProof("broken", "required", "it called ls"),
        False,
    ),
}


@pytest.mark.parametrize(("answers", "proof", "works"), CASES.values(), ids=CASES)
def test_each_way_to_answer_is_told_apart(answers: list[Turn | Refusal], proof: ToolProof, works: bool) -> None:  # noqa: FBT001 - a table
    server = Server(iter(answers))
    assert prove(server) == proof
    assert len(server.asked) == len(answers)
    assert proof.works is works
    assert proof.meaning
    assert bool(proof.remedy) is (proof.verdict != "parsed" or proof.choice == "required")


def test_the_second_turn_has_the_call_and_its_result() -> None:
    server = Server(iter([GOOD, ANSWER]))
    prove(server)
    _, call, result = server.asked[1].messages
    assert call["tool_calls"][0]["id"] == result["tool_call_id"] == "c1"


@pytest.mark.parametrize(
    ("proof", "planned", "native"),
    [
        pytest.param(ToolProof("parsed", "auto", ""), False, True, id="what works is used, whatever was planned"),
        pytest.param(ToolProof("refused", "auto", ""), True, False, id="what is refused is not sent"),
        pytest.param(ToolProof("text", "required", ""), True, True, id="a shy model behind a parser keeps it"),
        pytest.param(ToolProof("text", "auto", ""), False, False, id="without a parser tools go into the prompt"),
    ],
)
def test_tools_are_sent_by_what_was_seen(proof: ToolProof, planned: bool, native: bool) -> None:  # noqa: FBT001 - a table
    assert proof.native(planned=planned) is native


def test_a_streamed_call_is_put_together_from_its_parts() -> None:
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": ""},
        {"tool_calls": [{"index": 0, "id": "a", "function": {"name": TOOL, "arguments": ""}}]},
        {"tool_calls": [{"index": 1, "id": "b", "function": {"name": "other", "arguments": "{}"}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"comm'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": 'and": "x"}'}}], "content": None},
    ]
    assert joined(deltas) == Turn("", (Call("a", TOOL, '{"command": "x"}'), Call("b", "other", "{}")))
