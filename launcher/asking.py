"""The door to LiteLLM: asks a model as OpenHands does, and as often as the configuration says."""

import os
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from launcher import retries
from launcher.llm import SECRETS, LLMConfig
from launcher.providers import OPENHANDS_PROXY
from launcher.retries import Fault, Policy

_PLAIN = (
    "api_version",
    "custom_llm_provider",
    "temperature",
    "top_p",
    "timeout",
    "drop_params",
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "aws_region_name",
)
_TOO_MANY = 429
_SPENT = ("insufficient_quota", "exceeded your current quota", "credit balance is too low")


T = TypeVar("T")


@dataclass
class RequestError(Exception):
    """A request that failed in the end, after `attempts`."""

    fault: Fault
    attempts: int

    def __str__(self) -> str:
        return self.fault.message


@dataclass(frozen=True, slots=True)
class Patience:
    """How to wait between attempts, and whom to tell of it."""

    sleep: Callable[[float], None] = time.sleep
    tell: Callable[[str], None] = lambda _: None


def arguments(llm: LLMConfig) -> dict[str, Any]:
    """What LiteLLM is given beside the messages; it makes no attempts of its own."""
    told = {key: value for key in _PLAIN if (value := getattr(llm, key)) is not None}
    model, base_url = llm.model, llm.base_url
    if model.startswith("openhands/"):
        model, base_url = f"litellm_proxy/{model.removeprefix('openhands/')}", base_url or OPENHANDS_PROXY
    # LiteLLM 1.106 looks at tools with the `mcp` package, which it does not install, unless it is told not to.
    told |= {"model": model, "max_retries": 0, "num_retries": 0, "_skip_mcp_handler": True}
    if base_url:
        told["base_url"] = base_url
    if llm.api_key:
        told["api_key"] = llm.api_key
    if llm.reasoning_effort not in {None, "none"}:
        told["reasoning_effort"] = llm.reasoning_effort
    if llm.litellm_extra_body:
        told["extra_body"] = dict(llm.litellm_extra_body)
    if headers := _headers(llm):
        told["extra_headers"] = headers
    return told


def ask(llm: LLMConfig, request: Mapping[str, Any], *, patience: Patience) -> dict[str, Any]:
    """One whole answer; raises RequestError where none came in all attempts."""
    return _persistently(llm, patience, lambda: _answered(llm, request))


def stream(llm: LLMConfig, request: Mapping[str, Any], *, patience: Patience) -> list[tuple[float, dict[str, Any]]]:
    """The pieces of an answer, each with the seconds since it was asked for; raises RequestError as `ask`."""
    return _persistently(llm, patience, lambda: _streamed(llm, request))


def served_window(llm: LLMConfig) -> int | None:
    """The context in tokens that an OpenAI-compatible server reports for the model; None if it says nothing of it."""
    import httpx

    if not llm.base_url or not llm.model.startswith("openai/"):
        return None
    try:
        url, headers = f"{llm.base_url.rstrip('/')}/models", {"Authorization": f"Bearer {llm.api_key}"}
        # Our own server is on this machine: a proxy that the environment names has no business between us and it.
        answer = httpx.get(url, headers=headers, timeout=10, trust_env=not llm.local).json()
        found = [each["max_model_len"] for each in answer["data"] if each["id"] == llm.model.removeprefix("openai/")]
        return int(found[0]) if found else None
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return None


def _persistently(llm: LLMConfig, patience: Patience, attempt: Callable[[], T]) -> T:
    policy, number = Policy.of(llm), 1
    while True:
        try:
            return attempt()
        except RequestError as error:
            seconds = retries.wait(policy, number, error.fault)
            if seconds is None:
                raise RequestError(error.fault, number) from None
            patience.tell(f"attempt {number} of {policy.attempts} failed ({error.fault.message}); again in {seconds:.0f} s")
            patience.sleep(seconds)
            number += 1


def _answered(llm: LLMConfig, request: Mapping[str, Any]) -> dict[str, Any]:
    with _told_as_faults(llm) as litellm:
        answer: dict[str, Any] = litellm.completion(**arguments(llm), **request).model_dump()
    if not answer.get("choices"):
        raise RequestError(Fault("empty", "the answer holds no choice"), 1)
    return answer


def _streamed(llm: LLMConfig, request: Mapping[str, Any]) -> list[tuple[float, dict[str, Any]]]:
    begun = time.monotonic()
    with _told_as_faults(llm) as litellm:
        pieces = [
            (time.monotonic() - begun, choice["delta"])
            for chunk in litellm.completion(**arguments(llm), **request, stream=True)
            for choice in chunk.model_dump().get("choices", [])
        ]
    if not pieces:
        raise RequestError(Fault("empty", "the stream holds no choice"), 1)
    return pieces


@contextmanager
def _told_as_faults(llm: LLMConfig) -> Iterator[Any]:
    """LiteLLM, whatever it raises told as a fault without a secret in it."""
    litellm = _litellm()
    litellm.modify_params = bool(llm.modify_params)
    try:
        with _quietly():
            yield litellm
    except Exception as error:
        if not _is_litellms(litellm, error):
            raise
        raise RequestError(_fault(llm, error, _without_secrets(llm, str(error))), 1) from None


def _litellm() -> Any:
    """LiteLLM, which fetches its list of prices from the network at import unless it is told not to, and prints advice."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    with _quietly():
        import litellm
    litellm.suppress_debug_info = True
    return litellm


@contextmanager
def _quietly() -> Iterator[None]:
    """Its own deprecations are no news for people."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _is_litellms(litellm: Any, error: Exception) -> bool:
    """Its faults derive from the openai client's; what is wrong with a configuration may be raised as a plain one."""
    import openai

    return isinstance(error, (openai.OpenAIError, litellm.exceptions.BudgetExceededError, ValueError))


# "litellm.RateLimitError: RateLimitError: OpenAIException - ", before what a server said (exception_mapping_utils.py).
_LAYERS = re.compile(r"(litellm\.\w+: )?(\w+Error: )?(\w+(Exception|Error) ?[-:]? ?)?")


def _fault(llm: LLMConfig, error: Exception, message: str) -> Fault:
    """The fault in the server's own words, behind what LiteLLM calls it."""
    kind, status = type(error).__name__, getattr(error, "status_code", None)
    line = " ".join(message.split())
    said = (_LAYERS.sub("", line, count=1) or line)[:300]
    if kind == "Timeout":
        return Fault("timeout", f"no answer in time: {said}", status)
    if kind == "APIConnectionError" or "Connection error" in said:
        return Fault("connection", f"no connection to {llm.base_url or 'the provider'}: {said}")
    told = f"{status}: {said}" if status else said
    if kind == "ContextWindowExceededError":
        return Fault("overflow", told, status)
    if status == _TOO_MANY and any(sign in said for sign in _SPENT):
        return Fault("quota", told, status)
    return Fault("status", told, status, _retry_after(getattr(error, "litellm_response_headers", None)))


def _retry_after(headers: Mapping[str, str] | None) -> float | None:
    """The seconds that a server asked for; a date, which the header may hold too, is not counted."""
    text = (headers or {}).get("retry-after", "")
    return float(text) if text.replace(".", "", 1).isdecimal() else None


def _without_secrets(llm: LLMConfig, text: str) -> str:
    for secret in SECRETS:
        if value := getattr(llm, secret):
            text = text.replace(value, "****")
    return text


def _headers(llm: LLMConfig) -> dict[str, str]:
    # A fallback's answer would tell nothing of the local model.
    own = "none" if llm.local else None
    told = {"HTTP-Referer": llm.openrouter_site_url, "X-Title": llm.openrouter_app_name, "X-Launcher-Fallback": own}
    return {name: value for name, value in told.items() if value}
