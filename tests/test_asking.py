"""LiteLLM itself against a server on this machine: what each provider is sent, and how often."""

import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from launcher import asking
from launcher.asking import Patience, RequestError
from launcher.llm import LLMConfig
from launcher.providers import PROVIDERS, with_prefix
from tests.model_server import HANG, WORDS, ModelServer, serving

KEY = "sk-very-secret-0123456789"
REQUEST = {"messages": [{"role": "user", "content": "What is the capital of France?"}], "max_tokens": 48}


@dataclass
class Clock:
    """Sleeps in no time, and remembers for how long it should have."""

    slept: list[float] = field(default_factory=list)

    def patience(self) -> Patience:
        return Patience(sleep=self.slept.append)


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with serving(ModelServer()) as made:
        yield made


def of_provider(key: str, address: str, model: str = "m", **more: Any) -> LLMConfig:
    return LLMConfig(
        "x", with_prefix(PROVIDERS[key], model), base_url=address, api_key=KEY, provider=key, **{"num_retries": 1, **more}
    )


BEARER = ("authorization", f"Bearer {KEY}")
# The base path, the whole path, the query, the key's header and the model in the body, as each provider's reference has it.
FORMS: Mapping[str, tuple[str, str, Mapping[str, str], tuple[str, str], str | None]] = {
    # learn.microsoft.com/azure/ai-services/openai/reference: Chat completions
    "azure": ("", "/openai/deployments/m/chat/completions", {"api-version": "2024-12-01-preview"}, ("api-key", KEY), "m"),
    # ai.google.dev/api/generate-content
    "gemini": ("", "/models/m:generateContent", {}, ("x-goog-api-key", KEY), None),
    # console.groq.com/docs/api-reference
    "groq": ("/openai/v1", "/openai/v1/chat/completions", {}, BEARER, "m"),
    # platform.openai.com/docs/api-reference/chat
    "openai": ("/v1", "/v1/chat/completions", {}, BEARER, "m"),
    # openrouter.ai/docs/api-reference/chat-completion
    "openrouter": ("/api/v1", "/api/v1/chat/completions", {}, BEARER, "m"),
    # docs.anthropic.com/en/api/messages
    "anthropic": ("", "/v1/messages", {}, ("x-api-key", KEY), "m"),
    # api-docs.deepseek.com
    "deepseek": ("", "/chat/completions", {}, BEARER, "m"),
    # docs.mistral.ai/api
    "mistral": ("/v1", "/v1/chat/completions", {}, BEARER, "m"),
    # platform.moonshot.ai/docs/api/chat
    "moonshot": ("/v1", "/v1/chat/completions", {}, BEARER, "m"),
    # docs.litellm.ai/docs/proxy/user_keys
    "litellm": ("", "/chat/completions", {}, BEARER, "m"),
    "openhands": ("", "/chat/completions", {}, BEARER, "m"),
    # docs.vllm.ai, OpenAI-compatible server
    "compatible": ("/v1", "/v1/chat/completions", {}, BEARER, "m"),
}


@pytest.mark.parametrize("key", FORMS)
def test_each_provider_is_asked_in_its_own_form(server: ModelServer, key: str) -> None:
    base, path, query, header, model = FORMS[key]
    more = {"api_version": "2024-12-01-preview"} if key == "azure" else {}
    answer = asking.ask(of_provider(key, server.address + base, **more), REQUEST, patience=Patience())
    assert answer["choices"][0]["message"]["content"] == WORDS
    (asked,) = server.asked
    assert (asked.path, asked.query) == (path, query)
    assert asked.headers[header[0]] == header[1]
    assert "What is the capital of France?" in str(asked.body)
    assert asked.body.get("model") == model
    # The key is in that one header alone.
    assert [name for name, value in asked.headers.items() if KEY in value] == [header[0]]
    assert KEY not in str(asked.body) + str(asked.query)


def test_a_local_model_is_tested_itself_and_never_by_its_fallback(server: ModelServer) -> None:
    for provider, expected in (("local", "none"), ("compatible", None)):
        llm = LLMConfig("x", "openai/m", base_url=f"{server.address}/v1", api_key=KEY, provider=provider)
        asking.ask(llm, REQUEST, patience=Patience())
        assert server.asked[-1].headers.get("x-launcher-fallback") == expected


def test_every_provider_that_has_a_key_is_in_the_table() -> None:
    # Vertex and Bedrock sign with credentials of their clouds, for which their own libraries are needed.
    assert set(FORMS) == {key for key, each in PROVIDERS.items() if each.key}


def test_what_was_set_reaches_the_server(server: ModelServer) -> None:
    llm = of_provider(
        "compatible",
        f"{server.address}/v1",
        temperature=0.2,
        top_p=0.9,
        litellm_extra_body={"top_k": 20},
        openrouter_site_url="https://me",
        openrouter_app_name="mine",
    )
    asking.ask(llm, REQUEST, patience=Patience())
    (asked,) = server.asked
    assert {key: asked.body[key] for key in ("temperature", "top_p", "top_k")} == {
        "temperature": 0.2,
        "top_p": 0.9,
        "top_k": 20,
    }
    assert (asked.headers["http-referer"], asked.headers["x-title"]) == ("https://me", "mine")
    assert "reasoning_effort" not in asked.body


CASES = {
    "an answer at once": ([], 1, [], None),
    "too many requests, once": ([429], 2, [5], None),
    "a server's fault, twice": ([500, 500], 3, [5, 5], None),
    "a bad gateway": ([502], 2, [5], None),
    "a model that is being loaded": ([503, 503, 503], 4, [5, 5, 8], None),
    "a gateway's time-out": ([504], 2, [5], None),
    "never anything but 429": ([429] * 9, 4, [5, 5, 8], "status"),
    "never anything but 503": ([503] * 9, 4, [5, 5, 8], "status"),
    "a wrong request": ([400], 1, [], "status"),
    "a wrong key": ([401], 1, [], "status"),
    "what is forbidden": ([403], 1, [], "status"),
    "a model that is not there": ([404], 1, [], "status"),
    "a server that hangs": ([HANG] * 9, 4, [5, 5, 8], "timeout"),
}


@pytest.mark.parametrize(("statuses", "attempts", "slept", "fault"), CASES.values(), ids=CASES)
def test_it_is_asked_as_often_as_openhands_documents(
    server: ModelServer, statuses: list[int], attempts: int, slept: list[float], fault: str | None
) -> None:
    server.statuses = list(statuses)
    clock = Clock()
    llm = replace(of_provider("compatible", f"{server.address}/v1"), num_retries=4, timeout=1)
    if fault is None:
        asking.ask(llm, REQUEST, patience=clock.patience())
    else:
        with pytest.raises(RequestError) as caught:
            asking.ask(llm, REQUEST, patience=clock.patience())
        assert (caught.value.fault.kind, caught.value.attempts) == (fault, attempts)
    assert (len(server.asked), clock.slept) == (attempts, slept)


@pytest.mark.parametrize(
    ("status", "refusal", "kind"),
    [
        # The texts of vLLM 0.32 (serving_engine.py) and of OpenAI's reference of errors.
        pytest.param(
            400, "This model's maximum context length is 8192 tokens. However, you requested 9000", "overflow", id="overflow"
        ),
        pytest.param(429, "You exceeded your current quota, please check your plan", "quota", id="the money is spent"),
    ],
)
def test_what_will_not_pass_is_asked_once(server: ModelServer, status: int, refusal: str, kind: str) -> None:
    server.statuses, server.refusal = [status] * 9, refusal
    clock = Clock()
    llm = replace(of_provider("compatible", f"{server.address}/v1"), num_retries=4)
    with pytest.raises(RequestError) as caught:
        asking.ask(llm, REQUEST, patience=clock.patience())
    assert (caught.value.fault.kind, len(server.asked), clock.slept) == (kind, 1, [])


@pytest.mark.parametrize(
    ("statuses", "timeout", "message"),
    [
        pytest.param([429], 5, "429: slow down", id="too many requests"),
        pytest.param([401], 5, "401: slow down", id="a wrong key"),
        pytest.param([404], 5, "404: slow down", id="a model that is not there"),
        pytest.param([503], 5, "503: slow down", id="not now"),
        pytest.param([HANG], 1, "no answer in time: ", id="a server that hangs"),
    ],
)
def test_a_fault_is_told_in_the_servers_words(server: ModelServer, statuses: list[int], timeout: int, message: str) -> None:
    server.statuses, server.refusal = statuses, "slow down"
    with pytest.raises(RequestError) as caught:
        asking.ask(of_provider("compatible", f"{server.address}/v1", timeout=timeout), REQUEST, patience=Patience())
    assert str(caught.value).startswith(message)
    assert "litellm" not in str(caught.value)


def test_a_server_that_says_how_long_is_waited_for(server: ModelServer) -> None:
    server.statuses, server.headers = [429], {"Retry-After": "17"}
    clock = Clock()
    asking.ask(replace(of_provider("compatible", f"{server.address}/v1"), num_retries=4), REQUEST, patience=clock.patience())
    assert clock.slept == [17]


def test_nobody_there_is_asked_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    clock = Clock()
    with pytest.raises(RequestError) as caught:
        asking.ask(replace(of_provider("compatible", address), num_retries=4), REQUEST, patience=clock.patience())
    assert (caught.value.fault.kind, clock.slept) == ("connection", [5, 5, 8])
    assert str(caught.value) == f"no connection to {address}: Connection error."


def test_no_fault_holds_the_key(server: ModelServer) -> None:
    server.statuses, server.refusal = [401], f"Incorrect API key provided: {KEY}"
    with pytest.raises(RequestError) as caught:
        asking.ask(of_provider("compatible", f"{server.address}/v1"), REQUEST, patience=Patience())
    assert KEY not in f"{caught.value} {caught.value!r} {caught.value.fault}"
    assert "****" in str(caught.value)


def test_a_stream_comes_in_pieces(server: ModelServer) -> None:
    pieces = asking.stream(of_provider("compatible", f"{server.address}/v1"), REQUEST, patience=Patience())
    assert "".join(delta["content"] or "" for _, delta in pieces).strip() == WORDS
    times = [at for at, _ in pieces]
    assert times == sorted(times)


@pytest.mark.parametrize(("model", "window"), [("openai/m", 32_768), ("openai/other", None), ("anthropic/m", None)])
def test_a_compatible_server_says_how_long_its_window_is(server: ModelServer, model: str, window: int | None) -> None:
    assert asking.served_window(LLMConfig("x", model, base_url=f"{server.address}/v1", api_key=KEY)) == window
