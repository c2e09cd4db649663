"""LiteLLM's own list, as it is installed: each model is found by the name with which LiteLLM is asked for it."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from launcher import litellm_list

SPEC = importlib.util.find_spec("litellm")
ENTRIES: dict[str, dict[str, Any]] = (
    json.loads((Path(SPEC.submodule_search_locations[0]) / litellm_list.FILE).read_bytes())
    if SPEC and SPEC.submodule_search_locations
    else {}
)


@pytest.mark.parametrize(
    ("prefix", "listed_as"),
    [
        pytest.param("openai", "openai", id="OpenAI's, without a prefix in the list"),
        pytest.param("gemini", "gemini", id="AI Studio's, with it"),
        pytest.param("vertex_ai", "vertex_ai-language-models", id="Google's own of Vertex, in a family"),
        pytest.param("vertex_ai", "vertex_ai-anthropic_models", id="those of others there, in another one"),
        pytest.param("bedrock", "bedrock", id="Bedrock's"),
        pytest.param("bedrock", "bedrock_converse", id="those that Bedrock's newer interface serves"),
    ],
)
def test_a_model_is_found_under_the_prefix_of_its_provider(prefix: str, listed_as: str) -> None:
    name, entry = next(
        (name, entry)
        for name, entry in ENTRIES.items()
        if entry.get("litellm_provider") == listed_as and entry.get("mode") == "chat" and "input_cost_per_token" in entry
    )
    model = name if name.startswith(f"{prefix}/") else f"{prefix}/{name}"
    found = litellm_list.look_up(model)
    assert found
    assert (found.model, found.input_cost) == (model, entry["input_cost_per_token"])
    assert model in litellm_list.models(prefix)


def test_a_name_that_another_provider_has_is_not_taken_for_this_ones() -> None:
    assert litellm_list.look_up("mistral/gpt-5.6") is None
    assert litellm_list.look_up("nobody/at-all") is None
