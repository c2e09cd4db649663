from types import MappingProxyType

import pytest

from launcher.endpoint import Endpoint
from launcher.errors import LauncherError
from launcher.llm import LLMConfig
from launcher.llm_settings import KINDS, Settings, cast, configured, read, refuses_name, write

ALL = Settings(
    "azure",
    MappingProxyType(
        {
            "model": 'azure/my "own"',
            "base_url": "https://x.openai.azure.com",
            "api_version": "2024-12-01-preview",
            "num_retries": 8,
            "retry_multiplier": 2.5,
            "temperature": 0.2,
            "drop_params": True,
            "litellm_extra_body": {"top_k": 20, "chat_template_kwargs": {"enable_thinking": False}},
            "embedding_model": "text-embedding-3-small",
            "embedding_deployment_name": "mine",
        }
    ),
)


def test_what_is_written_is_read_back() -> None:
    assert read(write(ALL), "x.toml") == ALL


FAULTS = {
    "no TOML": ("model =", "not valid TOML"),
    "no provider": ('model = "m"', "provider is missing"),
    "an unknown field names the closest": (
        'provider = "openai"\nbase_urll = "x"',
        "unknown field 'base_urll' (closest: base_url)",
    ),
    "a key has no place here": ('provider = "openai"\napi_key = "sk-x"', "api_key is a secret"),
    "text for a number": ('provider = "openai"\ntimeout = "9"', "timeout = '9' is no whole number"),
    "a fraction for a whole number": ('provider = "openai"\ntimeout = 1.5', "timeout = 1.5 is no whole number"),
    "true for a number": ('provider = "openai"\ntimeout = true', "timeout = True is no whole number"),
    "a number for true": ('provider = "openai"\ndrop_params = 1', "drop_params = 1 is no true or false"),
    "no number at all": ('provider = "openai"\ntemperature = nan', "temperature = nan is not from 0 to 2"),
    "too hot": ('provider = "openai"\ntemperature = 3', "temperature = 3 is not from 0 to 2"),
    "a negative wait": ('provider = "openai"\nretry_min_wait = -1', "retry_min_wait = -1 is not 0 or more"),
    "no window": ('provider = "openai"\nmax_input_tokens = 0', "max_input_tokens = 0 is not from 1"),
    "no address": ('provider = "openai"\nbase_url = "localhost:1"', "is no address that begins with http"),
    "a password in the address": ('provider = "openai"\nbase_url = "http://u:p@h/v1"', "base_url holds a password"),
    "no effort": ('provider = "openai"\nreasoning_effort = "much"', "reasoning_effort = 'much' is none of none, minimal"),
    "two lines": ('provider = "openai"\nmodel = "a\\nLLM_X=1"', "model has more than one line"),
    "all faults at once": ('provider = "openai"\nx = 1\ntimeout = 0', "unknown field 'x'; timeout = 0 is not from 1 to 86400"),
}


@pytest.mark.parametrize(("text", "message"), FAULTS.values(), ids=FAULTS)
def test_a_faulty_text_is_told_with_its_file(text: str, message: str) -> None:
    with pytest.raises(LauncherError) as caught:
        read(text, "x.toml")
    assert caught.value.message.startswith("x.toml")
    assert message in caught.value.message
    assert "sk-x" not in caught.value.message


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        pytest.param("temperature", "0.2", 0.2, id="a number"),
        pytest.param("num_retries", "8", 8, id="a whole number"),
        pytest.param("drop_params", "False", False, id="a truth"),
        pytest.param("model", "openai/o3", "openai/o3", id="a text"),
        pytest.param("litellm_extra_body", '{"top_k": 20}', {"top_k": 20}, id="a table in JSON"),
        pytest.param("litellm_extra_body", "{'a': None}", {"a": None}, id="a table as OpenHands' documents write it"),
    ],
)
def test_a_typed_field_gets_its_kind(field: str, text: str, value: object) -> None:
    assert cast(field, text) == value


@pytest.mark.parametrize(
    ("field", "text"),
    [("drop_params", "yes"), ("timeout", "long"), ("litellm_extra_body", "x"), ("nothing", "1"), ("api_key", "sk-x")],
)
def test_a_typed_field_that_is_none_is_refused(field: str, text: str) -> None:
    with pytest.raises(LauncherError) as caught:
        cast(field, text)
    assert "sk-x" not in caught.value.message


def test_every_field_of_openhands_page_can_be_said() -> None:
    # docs.openhands.dev, LLM configuration: what can be set in the interface and with -e.
    page = (
        "model api_key base_url api_version embedding_model embedding_deployment_name drop_params disable_vision caching_prompt"
    )
    retries = "num_retries retry_min_wait retry_max_wait retry_multiplier"
    assert set(f"{page} {retries}".split()) <= set(KINDS)


def test_a_remote_configuration_is_what_was_said_and_its_key() -> None:
    llm = configured("mine", ALL, {"api_key": "sk-x"})
    assert (llm.name, llm.provider, llm.temperature, llm.api_key, llm.max_input_tokens) == ("mine", "azure", 0.2, "sk-x", None)
    assert "sk-x" not in repr(llm)


def test_what_was_said_of_a_local_model_lies_over_what_its_server_tells() -> None:
    base = LLMConfig.of(Endpoint("m", "http://127.0.0.1:8400/v1", "k", 32_768), native_tool_calling=True)
    llm = configured("m", Settings("local", {"temperature": 0.2}), {}, base)
    assert (llm.temperature, llm.max_input_tokens, llm.base_url) == (0.2, 22_118, "http://127.0.0.1:8400/v1")


def test_without_a_model_there_is_nothing_to_ask() -> None:
    with pytest.raises(LauncherError, match="names no model"):
        configured("mine", Settings("openai", {}), {})


@pytest.mark.parametrize("name", ["../x", ".x", "a/b", "", "a" * 65, "x\n"])
def test_a_name_becomes_a_files_name(name: str) -> None:
    assert refuses_name(name)
    assert refuses_name("gpt-6.1_sol") is None
