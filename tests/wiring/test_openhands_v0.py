"""What is written into config.toml, read back by the rules of the releases that read it."""

import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from launcher.llm import LLMConfig
from launcher.wiring import openhands_toml as target
from tests.wiring.values import KEY, LARGE, SMALL, place


class V0(BaseModel):
    """openhands-ai 0.62.0, openhands/core/config/llm_config.py: LLMConfig, field for field; None where that is a default."""

    model_config = ConfigDict(extra="forbid")
    model: str = "claude-sonnet-4-20250514"
    api_key: SecretStr | None = None
    base_url: str | None = None
    api_version: str | None = None
    aws_access_key_id: SecretStr | None = None
    aws_secret_access_key: SecretStr | None = None
    aws_region_name: str | None = None
    openrouter_site_url: str = "https://docs.all-hands.dev/"
    openrouter_app_name: str = "OpenHands"
    num_retries: int = 5
    retry_multiplier: float = 8
    retry_min_wait: int = 8
    retry_max_wait: int = 64
    timeout: int | None = None
    max_message_chars: int = 30_000
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: float | None = None
    custom_llm_provider: str | None = None
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    input_cost_per_token: float | None = None
    output_cost_per_token: float | None = None
    ollama_base_url: str | None = None
    drop_params: bool = True
    modify_params: bool = True
    disable_vision: bool | None = None
    disable_stop_word: bool | None = False
    caching_prompt: bool = True
    log_completions: bool = False
    log_completions_folder: str = ""
    custom_tokenizer: str | None = None
    native_tool_calling: bool | None = None
    reasoning_effort: str | None = None
    seed: int | None = None
    safety_settings: list[dict[str, str]] | None = None
    for_routing: bool = False
    correct_num: int = 5
    completion_kwargs: dict[str, Any] | None = None


def read_back(text: str) -> dict[str, V0]:
    """LLMConfig.from_toml_section of that file: tables are named sections over the base, which a fault resets."""
    section = tomllib.loads(text)["llm"]
    plain = {key: value for key, value in section.items() if not isinstance(value, dict)}
    try:
        base = V0.model_validate(plain)
    except ValidationError:
        base = V0()
    read = {"llm": base}
    for name, over in section.items():
        if isinstance(over, dict):
            try:
                read[name] = V0.model_validate({**base.model_dump(), **over})
            except ValidationError:
                continue
    return read


EVERYTHING = LLMConfig(
    name="cloud",
    model="azure/mine",
    base_url="https://ada.openai.azure.com",
    api_key=KEY,
    provider="azure",
    api_version="2024-12-01-preview",
    custom_llm_provider="azure",
    timeout=300,
    temperature=0.2,
    top_p=0.9,
    max_input_tokens=128_000,
    max_output_tokens=16_384,
    input_cost_per_token=1e-06,
    output_cost_per_token=2e-06,
    drop_params=True,
    modify_params=False,
    disable_vision=False,
    caching_prompt=True,
    native_tool_calling=True,
    reasoning_effort="high",
    custom_tokenizer="a/b",
    litellm_extra_body={"top_k": 20},
    aws_access_key_id="a",
    aws_secret_access_key="b",  # noqa: S106 - a word for a test
    aws_session_token="c",  # noqa: S106 - the same
    aws_region_name="d",
    openrouter_site_url="https://me",
    openrouter_app_name="mine",
    embedding_model="e",
    embedding_deployment_name="f",
)
# What these releases have no field for.
UNKNOWN = {"name", "provider", "litellm_extra_body", "aws_session_token", "embedding_model", "embedding_deployment_name"}


def plain(made: V0) -> dict[str, Any]:
    return {key: each.get_secret_value() if isinstance(each, SecretStr) else each for key, each in made}


@pytest.mark.parametrize("register_only", [False, True], ids=["as [llm]", "as [llm.NAME]"])
@pytest.mark.parametrize("llm", [LARGE, SMALL, EVERYTHING], ids=["a local model", "a small window", "every field"])
def test_v0_reads_back_all_that_it_has_a_field_for(tmp_path: Path, llm: LLMConfig, *, register_only: bool) -> None:
    where = place(tmp_path, register_only=register_only)
    text = target.connect({where.config_file: None}, where, llm)[where.config_file]
    assert text is not None
    read = plain(read_back(text)[llm.name if register_only else "llm"])
    said = {each.name: getattr(llm, each.name) for each in fields(llm) if each.name not in UNKNOWN}
    told = {key: value for key, value in said.items() if value not in (None, "")}
    assert told.keys() <= V0.model_fields.keys()
    assert {key: read[key] for key in told} == told


def test_v0_keeps_a_registered_models_window_beside_a_users_own_section(tmp_path: Path) -> None:
    where = place(tmp_path, register_only=True)
    before = '[llm]\nmodel = "gpt-4o"\nnum_retries = 9\n'
    text = target.connect({where.config_file: before}, where, LARGE)[where.config_file]
    assert text is not None
    read = read_back(text)
    assert (read["llm"].model, read["llm"].num_retries) == ("gpt-4o", 9)
    assert (read[LARGE.name].max_input_tokens, read[LARGE.name].num_retries) == (LARGE.max_input_tokens, 4)
