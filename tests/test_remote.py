"""A provider's model as the gateway asks it: the first bytes of its requests, by each provider's reference."""

from collections.abc import Mapping
from typing import Any

import pytest

from launcher.errors import LauncherError
from launcher.llm import LLMConfig
from launcher.providers import PROVIDERS, with_prefix
from launcher.remote import is_here, remote

KEY = "sk-0123456789"
BEARER = f"Authorization: Bearer {KEY}"
VERSION = {"api_version": "2024-12-01-preview"}


def of(provider: str, model: str = "m", **more: Any) -> LLMConfig:
    return LLMConfig("x", with_prefix(PROVIDERS[provider], model), **{"api_key": KEY, "provider": provider, **more})


# By provider: what else is said, and of each path of ours the host, the target and the key's header there.
FORMS: Mapping[str, tuple[Mapping[str, str], Mapping[str, tuple[str, str, str]]]] = {
    # learn.microsoft.com/azure/ai-services/openai/reference: Chat completions
    "azure": (
        {"base_url": "https://ada.openai.azure.com/", **VERSION},
        {
            "/v1/chat/completions": (
                "ada.openai.azure.com",
                "/openai/deployments/m/chat/completions?api-version=2024-12-01-preview",
                f"api-key: {KEY}",
            ),
            "/v1/embeddings": (
                "ada.openai.azure.com",
                "/openai/deployments/m/embeddings?api-version=2024-12-01-preview",
                f"api-key: {KEY}",
            ),
        },
    ),
    # ai.google.dev/gemini-api/docs/openai
    "gemini": (
        {},
        {"/v1/chat/completions": ("generativelanguage.googleapis.com", "/v1beta/openai/chat/completions", BEARER)},
    ),
    # console.groq.com/docs/api-reference
    "groq": ({}, {"/v1/chat/completions": ("api.groq.com", "/openai/v1/chat/completions", BEARER)}),
    # platform.openai.com/docs/api-reference
    "openai": (
        {},
        {
            "/v1/chat/completions": ("api.openai.com", "/v1/chat/completions", BEARER),
            "/v1/responses": ("api.openai.com", "/v1/responses", BEARER),
        },
    ),
    # openrouter.ai/docs/api-reference
    "openrouter": ({}, {"/v1/chat/completions": ("openrouter.ai", "/api/v1/chat/completions", BEARER)}),
    # docs.anthropic.com/en/api/messages, platform.claude.com/docs/en/api/openai-sdk
    "anthropic": (
        {},
        {
            "/v1/messages": ("api.anthropic.com", "/v1/messages", f"x-api-key: {KEY}"),
            "/v1/messages/count_tokens": ("api.anthropic.com", "/v1/messages/count_tokens", f"x-api-key: {KEY}"),
            "/v1/chat/completions": ("api.anthropic.com", "/v1/chat/completions", BEARER),
        },
    ),
    # api-docs.deepseek.com
    "deepseek": ({}, {"/v1/chat/completions": ("api.deepseek.com", "/chat/completions", BEARER)}),
    # docs.mistral.ai/api
    "mistral": ({}, {"/v1/chat/completions": ("api.mistral.ai", "/v1/chat/completions", BEARER)}),
    # platform.moonshot.ai/docs/api/chat
    "moonshot": ({}, {"/v1/chat/completions": ("api.moonshot.ai", "/v1/chat/completions", BEARER)}),
    # docs.litellm.ai/docs/proxy/user_keys, docs.litellm.ai/docs/anthropic_unified
    "litellm": (
        {"base_url": "http://10.0.0.5:4000"},
        {
            "/v1/chat/completions": ("10.0.0.5:4000", "/v1/chat/completions", BEARER),
            "/v1/messages": ("10.0.0.5:4000", "/v1/messages", BEARER),
        },
    ),
    "openhands": ({}, {"/v1/chat/completions": ("llm-proxy.app.all-hands.dev", "/v1/chat/completions", BEARER)}),
    # docs.vllm.ai, OpenAI-compatible server
    "compatible": (
        {"base_url": "https://gpu.example.org:8443/team/v1"},
        {"/v1/chat/completions": ("gpu.example.org:8443", "/team/v1/chat/completions", BEARER)},
    ),
}


@pytest.mark.parametrize("provider", FORMS)
def test_each_provider_is_asked_in_its_own_form(provider: str) -> None:
    more, paths = FORMS[provider]
    made = remote(of(provider, **more))
    assert made.model == "m"
    for path, (host, target, key) in paths.items():
        lines = (f"POST {target} HTTP/1.1", f"Host: {host}", key, "Content-Type: application/json", "")
        assert made.head(path) == "\r\n".join(lines).encode()
    assert made.head("/tokenize") is None
    assert KEY not in repr(made)


def test_every_provider_that_has_a_key_is_in_the_table() -> None:
    assert set(FORMS) == {key for key, each in PROVIDERS.items() if each.api} == {k for k, e in PROVIDERS.items() if e.key}


@pytest.mark.parametrize(
    ("llm", "there"),
    [
        pytest.param(of("openai"), ("api.openai.com", 443, True), id="the provider's own address"),
        pytest.param(of("openai", base_url="https://eu.example.com/v1/"), ("eu.example.com", 443, True), id="another address"),
        pytest.param(of("compatible", base_url="http://box:8000/v1"), ("box", 8000, False), id="in clear text, as typed"),
        pytest.param(of("compatible", base_url="http://[::1]:8000/v1"), ("::1", 8000, False), id="an address of IPv6"),
        pytest.param(of("compatible", base_url="HTTPS://Box/v1".replace("HTTPS", "https")), ("box", 443, True), id="capitals"),
    ],
)
def test_where_it_is_asked(llm: LLMConfig, there: tuple[str, int, bool]) -> None:
    made = remote(llm)
    assert (made.host, made.port, made.tls) == there


def test_a_models_name_keeps_its_vendor_and_openrouters_headers_go_along() -> None:
    made = remote(of("openrouter", "qwen/qwen3-coder", openrouter_site_url="https://me", openrouter_app_name="mine"))
    assert made.model == "qwen/qwen3-coder"
    assert b"\r\nHTTP-Referer: https://me\r\nX-Title: mine\r\n" in (made.head("/v1/chat/completions") or b"")


@pytest.mark.parametrize(
    ("llm", "message"),
    [
        pytest.param(of("bedrock"), "x cannot be asked by the gateway: requests to AWS Bedrock are signed", id="Bedrock signs"),
        pytest.param(of("vertex"), "x cannot be asked by the gateway: requests to Google Vertex AI are", id="Vertex signs"),
        pytest.param(of("openai", api_key=""), "x has no key", id="no key"),
        pytest.param(of("openai", api_key="a\r\nHost: b"), "the key of x has characters", id="a key with lines in it"),
        pytest.param(of("compatible"), "x: it has no address", id="no address"),
        pytest.param(of("compatible", base_url="https://h/v1?a=b"), "x: its address https://h/v1?a=b is none", id="a query"),
        pytest.param(of("compatible", base_url="https://h:99999/v1"), "x: its address https://h:99999/v1", id="no such port"),
        pytest.param(of("compatible", base_url="https://h/a\tb"), "x: its address", id="a tab in the path"),
        pytest.param(
            of("azure", "a/b", base_url="https://h", **VERSION),
            "x: model = 'a/b' cannot be part",
            id="a slash in a deployment",
        ),
        pytest.param(
            of("azure", base_url="https://h", api_version="1&k=2"), "x: api_version = '1&k=2' cannot", id="a version with more"
        ),
        pytest.param(of("azure", base_url="https://h"), "x: api_version = '' cannot be part", id="no version"),
    ],
)
def test_what_cannot_be_asked_is_told_in_one_line_with_what_to_do(llm: LLMConfig, message: str) -> None:
    with pytest.raises(LauncherError) as caught:
        remote(llm)
    assert caught.value.message.startswith(message)
    assert "\n" not in caught.value.message
    assert caught.value.hint
    assert KEY not in caught.value.message


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("http://127.0.0.1:8000/v1", True),
        ("http://localhost:8000/v1", True),
        ("http://[::1]:8000/v1", True),
        ("https://api.example.org/v1", False),
        ("http://192.168.1.7:8000/v1", False),
    ],
)
def test_what_stays_on_this_machine_is_told_from_what_leaves_it(address: str, *, here: bool) -> None:
    assert is_here(remote(of("compatible", base_url=address))) == here
