"""What the stub says to clients of Anthropic's messages and of OpenAI's responses, in the words of vLLM 0.32.

entrypoints/anthropic/serving.py and entrypoints/openai/responses/serving.py: the events of a stream, in their order.
"""

from collections.abc import Sequence
from typing import Any

Events = list[tuple[str, dict[str, Any]]]


def message(model: str, words: Sequence[str], asked: int) -> dict[str, Any]:
    return {
        "id": "msg_stub",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": "".join(words)}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": asked, "output_tokens": len(words)},
    }


def message_events(model: str, words: Sequence[str], asked: int) -> Events:
    whole = message(model, words, asked)
    begun = {**whole, "content": [], "stop_reason": None, "usage": {"input_tokens": asked, "output_tokens": 0}}
    deltas: list[dict[str, Any]] = [{"index": 0, "delta": {"type": "text_delta", "text": word}} for word in words]
    events: Events = [
        ("message_start", {"message": begun}),
        ("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
        *(("content_block_delta", delta) for delta in deltas),
        ("content_block_stop", {"index": 0}),
        ("message_delta", {"delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": whole["usage"]}),
        ("message_stop", {}),
    ]
    return [(name, {"type": name, **content}) for name, content in events]


def response(model: str, words: Sequence[str], asked: int) -> dict[str, Any]:
    used: dict[str, Any] = {"input_tokens": asked, "output_tokens": len(words), "total_tokens": asked + len(words)}
    details: dict[str, Any] = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    head = {"id": "resp_stub", "object": "response", "created_at": 1, "model": model, "tools": [], "tool_choice": "auto"}
    return {
        **head,
        "status": "completed",
        "parallel_tool_calls": True,
        "output": [_item(words)],
        "usage": {**used, **details},
    }


def response_events(model: str, words: Sequence[str], asked: int) -> Events:
    whole = response(model, words, asked)
    begun = {**whole, "status": "in_progress", "output": [], "usage": None}
    where = {"item_id": "msg_stub", "output_index": 0, "content_index": 0}
    text = "".join(words)
    events: Events = [
        ("response.created", {"response": begun}),
        ("response.in_progress", {"response": begun}),
        ("response.output_item.added", {"output_index": 0, "item": {**_item(()), "status": "in_progress", "content": []}}),
        ("response.content_part.added", {**where, "part": _part("")}),
        *(("response.output_text.delta", {**where, "delta": word, "logprobs": []}) for word in words),
        ("response.output_text.done", {**where, "text": text, "logprobs": []}),
        ("response.content_part.done", {**where, "part": _part(text)}),
        ("response.output_item.done", {"output_index": 0, "item": _item(words)}),
        ("response.completed", {"response": whole}),
    ]
    return [(name, {"type": name, "sequence_number": number, **content}) for number, (name, content) in enumerate(events)]


def _item(words: Sequence[str]) -> dict[str, Any]:
    return {
        "id": "msg_stub",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [_part("".join(words))],
    }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
