"""Each agent's files: what stands in them once the model is there, and that all of it goes again."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from launcher.endpoint import Endpoint
from launcher.errors import LauncherError
from launcher.llm import LLMConfig
from launcher.wiring.base import Files, Place
from launcher.wiring.registry import TARGETS
from tests.wiring.values import KEY, LARGE, OTHER, place

URL = "http://127.0.0.1:8400/v1"
ROOT = Path("/x")
HOME = ROOT / "user"
AGENTS = {name: target for name, target in TARGETS.items() if target.AGENT != "openhands"}
# The window that agents are told, of 32,768 tokens (tests/wiring/values.py): a tenth stays free of what the answer leaves.
ANSWER = 8_192
WINDOW = (32_768 - ANSWER) * 9 // 10 + ANSWER


def files(target: str, texts: Mapping[str, str], chosen: Place) -> Files:
    """An agent's files by their names' ends; those that are not given do not exist."""
    paths = TARGETS[target].paths(chosen, LARGE)
    made = {path: texts.get(path.name) for path in paths}
    assert set(texts) <= {path.name for path in paths}
    return made


def read(path: Path, text: str) -> Any:
    """What a file says to a reader that has nothing to do with ours."""
    if path.suffix in {".yaml", ".yml"}:
        return yaml.safe_load(text)
    return tomllib.loads(text) if path.suffix == ".toml" else json.loads(text) if path.suffix != ".txt" else text


@dataclass(frozen=True)
class Case:
    """An agent, whether it shall start with the model, its files before and what they say after."""

    agent: str
    says: Mapping[str, Any]
    default: bool = False
    before: Mapping[str, str] = field(default_factory=dict)


OPENCODE = {
    "npm": "@ai-sdk/openai-compatible",
    "name": "model-launcher",
    "options": {"baseURL": URL, "apiKey": KEY, "timeout": 1_800_000},
    "models": {
        "qwen2.5-coder": {
            "name": "qwen2.5-coder",
            "tool_call": True,
            "attachment": False,
            "modalities": {"input": ["text"], "output": ["text"]},
            "limit": {"context": WINDOW, "output": ANSWER},
            "cost": {"input": 0, "output": 0},
        }
    },
}
LITELLM = {
    "model_name": "qwen2.5-coder",
    "litellm_params": {"model": "hosted_vllm/qwen2.5-coder", "api_base": URL, "api_key": KEY, "timeout": 1800},
    "model_info": {
        "max_tokens": ANSWER,
        "max_input_tokens": WINDOW - ANSWER,
        "max_output_tokens": ANSWER,
        "input_cost_per_token": 0,
        "output_cost_per_token": 0,
        "mode": "chat",
        "supports_function_calling": True,
        "supports_vision": False,
    },
}
CODEX = {
    "model": "qwen2.5-coder",
    "model_provider": "launcher",
    "model_context_window": WINDOW,
    "model_auto_compact_token_limit": WINDOW - ANSWER,
    "web_search": "disabled",
    "model_providers": {
        "launcher": {
            "name": "model-launcher",
            "base_url": URL,
            "wire_api": "responses",
            "experimental_bearer_token": KEY,
            "stream_idle_timeout_ms": 1_800_000,
        }
    },
}
QWEN = {
    "id": "qwen2.5-coder",
    "name": "qwen2.5-coder",
    "baseUrl": URL,
    "envKey": "MODEL_LAUNCHER_KEY",
    "generationConfig": {
        "contextWindowSize": WINDOW,
        "timeout": 1_800_000,
        "samplingParams": {"max_tokens": ANSWER},
    },
}
GOOSE = {
    "name": "launcher",
    "engine": "openai",
    "display_name": "model-launcher",
    "description": "a model on this machine",
    "api_key_env": "",
    "requires_auth": False,
    "base_url": "http://127.0.0.1:8400",
    "headers": {"Authorization": f"Bearer {KEY}"},
    "models": [{"name": "qwen2.5-coder", "context_limit": WINDOW}],
    "dynamic_models": False,
    "supports_streaming": True,
    "timeout_seconds": 1800,
}
ZED = {
    "api_url": URL,
    "available_models": [
        {
            "name": "qwen2.5-coder",
            "display_name": "qwen2.5-coder (model-launcher)",
            "max_tokens": WINDOW,
            "max_output_tokens": ANSWER,
            "capabilities": {
                "tools": True,
                "images": False,
                "parallel_tool_calls": False,
                "prompt_cache_key": False,
                "chat_completions": True,
            },
        }
    ],
}
HERMES = {
    "name": "model-launcher",
    "base_url": URL,
    "api_key": KEY,
    "default_model": "qwen2.5-coder",
    "models": {"qwen2.5-coder": {"context_length": WINDOW}},
    "context_length": WINDOW,
    "request_timeout_seconds": 1800,
}
OPENCLAW = {
    "baseUrl": URL,
    "apiKey": KEY,
    "api": "openai-completions",
    "timeoutSeconds": 1800,
    "models": [
        {
            "id": "qwen2.5-coder",
            "name": "qwen2.5-coder",
            "reasoning": False,
            "input": ["text"],
            "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0},
            "contextWindow": WINDOW,
            "maxTokens": ANSWER,
        }
    ],
}
CASES = {
    "opencode: a file that we make": Case(
        "opencode", {"opencode.json": {"$schema": "https://opencode.ai/config.json", "provider": {"launcher": OPENCODE}}}
    ),
    "opencode: beside another provider, and the default is theirs": Case(
        "opencode",
        {"opencode.json": {"model": "a/b", "provider": {"a": {}, "launcher": OPENCODE}}},
        before={"opencode.json": '{"model": "a/b", "provider": {"a": {}}}'},
    ),
    "opencode: the default is ours": Case(
        "opencode",
        {
            "opencode.json": {
                "model": "launcher/qwen2.5-coder",
                "small_model": "launcher/qwen2.5-coder",
                "provider": {"launcher": OPENCODE},
            }
        },
        default=True,
        before={"opencode.json": '{"model": "a/b"}'},
    ),
    "opencode: the .jsonc comes last, and is the one": Case(
        "opencode",
        {"opencode.jsonc": {"provider": {"launcher": OPENCODE}}, "opencode.json": {"theme": "x"}},
        before={"opencode.jsonc": "{}\n", "opencode.json": '{"theme": "x"}\n'},
    ),
    "kilo: the same, in its own place": Case(
        "kilo", {"kilo.json": {"$schema": "https://opencode.ai/config.json", "provider": {"launcher": OPENCODE}}}
    ),
    "litellm: one more model, and its router's settings are as they were": Case(
        "litellm",
        {
            "litellm.yaml": {
                "model_list": [{"model_name": "gpt", "litellm_params": {"model": "openai/gpt"}}, LITELLM],
                "router_settings": {"num_retries": 2},
            }
        },
        before={
            "litellm.yaml": (
                "model_list:\n  - model_name: gpt # theirs\n    litellm_params: {model: openai/gpt}\n\n"
                "router_settings:\n  num_retries: 2\n"
            )
        },
    ),
    "codex: a profile of our own": Case("codex", {"launcher.config.toml": CODEX}),
    "codex: the same in its configuration, where the default is ours": Case(
        "codex",
        {
            "launcher.config.toml": CODEX,
            "config.toml": {**CODEX, "projects": {"/x": {"trust_level": "trusted"}}, "mcp_servers": {"a": {"command": "b"}}},
        },
        default=True,
        before={
            "config.toml": (
                'model = "gpt-5.6"  # best\n\n[projects."/x"]\ntrust_level = "trusted"\n\n[mcp_servers.a]\ncommand = "b"\n'
            )
        },
    ),
    "llm: one more model, and its key": Case(
        "llm",
        {
            "extra-openai-models.yaml": [
                {"model_id": "x", "model_name": "y"},
                {
                    "model_id": "launcher/qwen2.5-coder",
                    "model_name": "qwen2.5-coder",
                    "api_base": URL,
                    "api_key_name": "launcher",
                    "supports_tools": True,
                    "supports_schema": True,
                },
            ],
            "keys.json": {"openai": "sk-theirs", "launcher": KEY},
        },
        before={"extra-openai-models.yaml": "- model_id: x\n  model_name: y\n", "keys.json": '{"openai": "sk-theirs"}'},
    ),
    "aider: the model and its limits": Case(
        "aider",
        {
            ".aider.model.settings.yml": [
                {
                    "name": "hosted_vllm/qwen2.5-coder",
                    "weak_model_name": "hosted_vllm/qwen2.5-coder",
                    "edit_format": "diff",
                    "extra_params": {"api_base": URL, "api_key": KEY, "max_tokens": ANSWER, "timeout": 1800},
                }
            ],
            ".aider.model.metadata.json": {
                "hosted_vllm/qwen2.5-coder": {
                    "max_tokens": ANSWER,
                    "max_input_tokens": WINDOW - ANSWER,
                    "max_output_tokens": ANSWER,
                    "input_cost_per_token": 0,
                    "output_cost_per_token": 0,
                    "litellm_provider": "hosted_vllm",
                    "mode": "chat",
                }
            },
            ".aider.conf.yml": {
                "model": "hosted_vllm/qwen2.5-coder",
                "weak-model": "hosted_vllm/qwen2.5-coder",
                "dark-mode": True,
            },
        },
        default=True,
        before={".aider.conf.yml": "# mine\nmodel: sonnet  # best\ndark-mode: true\n"},
    ),
    "pi: a provider, and the default is theirs": Case(
        "pi",
        {
            "models.json": {
                "providers": {
                    "launcher": {
                        "baseUrl": URL,
                        "api": "openai-completions",
                        "apiKey": KEY,
                        "compat": {
                            "supportsDeveloperRole": False,
                            "supportsReasoningEffort": False,
                            "maxTokensField": "max_tokens",
                        },
                        "models": [
                            {
                                "id": "qwen2.5-coder",
                                "name": "qwen2.5-coder",
                                "reasoning": False,
                                "input": ["text"],
                                "contextWindow": WINDOW,
                                "maxTokens": ANSWER,
                                "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0},
                            }
                        ],
                    }
                }
            },
            "settings.json": {"defaultProvider": "a", "defaultModel": "b"},
        },
        before={"settings.json": '{"defaultProvider": "a", "defaultModel": "b"}'},
    ),
    "qwen: one more model, and the default is ours": Case(
        "qwen",
        {
            "settings.json": {
                "env": {"MODEL_LAUNCHER_KEY": KEY},
                "modelProviders": {"openai": [{"id": "x"}, QWEN]},
                "security": {"auth": {"selectedType": "openai"}},
                "model": {"name": "qwen2.5-coder"},
            }
        },
        default=True,
        before={"settings.json": '{"modelProviders": {"openai": [{"id": "x"}]}, "model": {"name": "x"}}'},
    ),
    "continue: a file that we make": Case(
        "continue",
        {
            "config.yaml": {
                "name": "Local",
                "version": "1.0.0",
                "schema": "v1",
                "models": [
                    {
                        "name": "qwen2.5-coder (model-launcher)",
                        "provider": "openai",
                        "model": "qwen2.5-coder",
                        "apiBase": URL,
                        "apiKey": KEY,
                        "roles": ["chat", "edit", "apply"],
                        "capabilities": ["tool_use"],
                        "defaultCompletionOptions": {"contextLength": WINDOW, "maxTokens": ANSWER},
                    }
                ],
            }
        },
    ),
    "goose: a provider of our own, and the default is theirs": Case(
        "goose",
        {
            "launcher.json": GOOSE,
            "config.yaml": {"active_provider": "anthropic"},
        },
        before={"config.yaml": "active_provider: anthropic # mine\n"},
    ),
    "goose: the default is ours": Case(
        "goose",
        {
            "launcher.json": GOOSE,
            "config.yaml": {
                "active_provider": "launcher",
                "providers": {
                    "anthropic": {"enabled": True, "model": "opus", "configured": True},
                    "launcher": {"enabled": True, "model": "qwen2.5-coder", "configured": True},
                },
            },
        },
        default=True,
        before={
            "config.yaml": (
                "active_provider: anthropic # mine\nproviders:\n  anthropic:\n    enabled: true\n    model: opus\n"
                "    configured: true\n"
            )
        },
    ),
    "zed: a provider, and no key": Case(
        "zed",
        {"settings.json": {"theme": "One", "language_models": {"ollama": {}, "openai_compatible": {"launcher": ZED}}}},
        before={"settings.json": '{"theme": "One", "language_models": {"ollama": {}}}'},
    ),
    "zed: the default is ours": Case(
        "zed",
        {
            "settings.json": {
                "agent": {"default_model": {"provider": "launcher", "model": "qwen2.5-coder"}, "dock": "left"},
                "language_models": {"openai_compatible": {"launcher": ZED}},
            }
        },
        default=True,
        before={"settings.json": '{"agent": {"default_model": {"provider": "zed.dev", "model": "x"}, "dock": "left"}}'},
    ),
    "hermes: a provider, and the default is theirs": Case(
        "hermes",
        {"config.yaml": {"model": "x", "providers": {"launcher": HERMES}}},
        before={"config.yaml": "model: x # mine\n"},
    ),
    "hermes: the default is ours": Case(
        "hermes",
        {
            "config.yaml": {
                "model": {"provider": "launcher", "default": "qwen2.5-coder", "base_url": URL},
                "agent": {"max_turns": 9},
                "providers": {"launcher": HERMES},
            }
        },
        default=True,
        before={"config.yaml": "model:\n  provider: openrouter\n  default: x\nagent:\n  max_turns: 9\n"},
    ),
    "openclaw: a provider in JSON5, and the default is theirs": Case(
        "openclaw",
        {
            "openclaw.json": {
                "agents": {"defaults": {"model": {"primary": "a/b", "fallbacks": ["c/d"]}}},
                "models": {"mode": "merge", "providers": {"launcher": OPENCLAW}},
            }
        },
        before={
            "openclaw.json": '{"agents": {"defaults": {"model": {"primary": "a/b", "fallbacks": ["c/d"]}}},'
            '"models": {"mode": "merge"}}'
        },
    ),
    "openclaw: the default is ours, and its fallbacks stay": Case(
        "openclaw",
        {
            "openclaw.json": {
                "agents": {"defaults": {"model": {"primary": "launcher/qwen2.5-coder", "fallbacks": ["c/d"]}}},
                "models": {"providers": {"launcher": OPENCLAW}},
            }
        },
        default=True,
        before={"openclaw.json": '{"agents": {"defaults": {"model": {"primary": "a/b", "fallbacks": ["c/d"]}}}}'},
    ),
    "openclaw: the default is ours, where it was one model alone": Case(
        "openclaw",
        {
            "openclaw.json": {
                "agents": {"defaults": {"model": "launcher/qwen2.5-coder"}},
                "models": {"providers": {"launcher": OPENCLAW}},
            }
        },
        default=True,
        before={"openclaw.json": '{"agents": {"defaults": {"model": "a/b"}}}'},
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_an_agents_files(case: Case) -> None:
    target, chosen = TARGETS[case.agent], replace(place(ROOT), default=case.default, own=ROOT / "own")
    before = files(case.agent, case.before, chosen)
    after = target.connect(before, chosen, LARGE)
    assert {path.name: read(path, text) for path, text in after.items() if text is not None} == case.says
    assert target.disconnect(after, before, after) == before


@pytest.mark.parametrize("name", AGENTS)
def test_what_others_write_meanwhile_stays_and_all_of_ours_goes(name: str) -> None:
    target, chosen = TARGETS[name], replace(place(ROOT), default=True, own=ROOT / "own")
    before = dict.fromkeys(target.paths(chosen, LARGE))
    after = target.connect(before, chosen, LARGE)
    for path, text in after.items():
        whole = path.name == "launcher.config.toml" or path.parent.name == "custom_providers"
        if text is None or path.suffix == ".txt" or whole:
            continue
        others = (
            text.replace("{", '{\n"theirs": {"url": "http://127.0.0.1:9/v1"},', 1)
            if path.suffix == ".json"
            else f"# theirs\n{text}"
        )
        if path.suffix in {".yml", ".yaml"}:
            others += "- name: theirs\n" if text.startswith("-") else "theirs: 1\n"
        if path.suffix == ".toml":
            others += "[theirs]\nx = 1\n"
        left = target.disconnect({path: others}, {path: None}, {path: text})[path]
        assert left is not None
        assert "theirs" in left
        assert LARGE.served not in left
        assert KEY not in left
        read(path, left)


@pytest.mark.parametrize("name", AGENTS)
def test_a_file_that_we_made_goes_even_if_another_program_printed_it_anew(name: str) -> None:
    target, chosen = TARGETS[name], replace(place(ROOT), default=True, own=ROOT / "own")
    before = dict.fromkeys(target.paths(chosen, LARGE))
    after = target.connect(before, chosen, LARGE)
    printed = {
        path: text if path.suffix in {".txt", ".toml"} or text is None else json.dumps(read(path, text), indent=1)
        for path, text in after.items()
    }
    assert target.disconnect(printed, before, after) == before


@pytest.mark.parametrize("name", AGENTS)
def test_an_entry_that_somebody_led_elsewhere_is_theirs(name: str) -> None:
    target, chosen = TARGETS[name], replace(place(ROOT), own=ROOT / "own", default=name == "claude")
    before = dict.fromkeys(target.paths(chosen, LARGE))
    after = target.connect(before, chosen, LARGE)
    for path, text in after.items():
        if text is not None and LARGE.origin in text:
            elsewhere = text.replace(LARGE.origin, "http://10.0.0.7:9000")
            left = target.disconnect({path: elsewhere}, before, after)[path]
            assert left is not None
            assert "http://10.0.0.7:9000" in left


@pytest.mark.parametrize("name", sorted(set(AGENTS) - {"codex"}))
def test_what_cannot_be_understood_is_left_alone(name: str) -> None:
    target, chosen = TARGETS[name], replace(place(ROOT), default=True, own=ROOT / "own")
    paths = target.paths(chosen, LARGE)
    with pytest.raises(LauncherError, match="left alone"):
        target.connect(dict.fromkeys(paths, "{[: <<<<<<< HEAD\n"), chosen, LARGE)


@pytest.mark.parametrize("name", AGENTS)
def test_an_agent_that_is_not_here_is_not_spoken_of(name: str) -> None:
    target, chosen = TARGETS[name], place(ROOT)
    nothing = dict.fromkeys(target.paths(chosen, LARGE))
    assert target.leaves(nothing, chosen) == ""
    assert target.leaves(nothing, replace(chosen, chosen=frozenset({name}), default=True)) is None
    if target.PROGRAMS:
        assert target.leaves(nothing, replace(chosen, programs=frozenset(target.PROGRAMS), default=True)) is None


@pytest.mark.parametrize("name", AGENTS)
def test_a_providers_model_is_not_told_to_it(name: str) -> None:
    remote = LLMConfig("cloud", "openai/gpt-5.6", api_key=KEY, provider="openai")
    roomy = LLMConfig.of(Endpoint("qwen2.5-coder", URL, KEY, 131_072), native_tool_calling=True)
    assert TARGETS[name].refuses(roomy) is None
    assert "cloud" in (TARGETS[name].refuses(remote) or "")


@pytest.mark.parametrize("name", AGENTS)
def test_the_line_that_starts_it_holds_no_key(name: str) -> None:
    for default in (True, False):
        line = TARGETS[name].start_line(replace(place(ROOT), default=default), OTHER)
        assert line
        assert KEY not in line


def test_claude_is_left_alone_without_a_word_for_its_default() -> None:
    target = TARGETS["claude"]
    chosen = replace(place(ROOT), chosen=frozenset({"claude"}))
    assert "--default" in (target.leaves(dict.fromkeys(target.paths(chosen, LARGE)), chosen) or "")
    before = {HOME / ".claude" / "settings.json": '{"env": {"ANTHROPIC_MODEL": "opus", "X": "1"}, "hooks": {}}'}
    after = target.connect(before, replace(chosen, default=True), LARGE)
    told = json.loads(next(text for text in after.values() if text))
    assert (told["hooks"], told["env"]["X"], told["env"]["ANTHROPIC_MODEL"]) == ({}, "1", "qwen2.5-coder")
    assert told["env"]["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == str(WINDOW)
    assert target.disconnect(after, before, after) == before


@pytest.mark.parametrize(
    ("name", "variable", "value", "path"),
    [
        ("opencode", "XDG_CONFIG_HOME", "/c", "/c/opencode/opencode.jsonc"),
        ("codex", "CODEX_HOME", "/c", "/c/launcher.config.toml"),
        ("claude", "CLAUDE_CONFIG_DIR", "/c", "/c/settings.json"),
        ("pi", "PI_CODING_AGENT_DIR", "/c", "/c/models.json"),
        ("llm", "LLM_USER_PATH", "/c", "/c/extra-openai-models.yaml"),
    ],
)
def test_a_folder_that_a_variable_names_is_the_one(name: str, variable: str, value: str, path: str) -> None:
    chosen = replace(place(ROOT), env={variable: value})
    assert TARGETS[name].paths(chosen, LARGE)[0] == Path(path)


@pytest.mark.parametrize(
    ("context", "refused"),
    [
        # LLMConfig.of makes 59,801 of 65,536 and 67,174 of 73,728; Hermes wants 64,000 (agent/model_metadata.py).
        pytest.param(65_536, True, id="64k"),
        pytest.param(73_728, False, id="72k"),
    ],
)
def test_hermes_is_not_told_of_a_window_that_it_does_not_start_with(context: int, refused: bool) -> None:  # noqa: FBT001 - a table
    llm = LLMConfig.of(Endpoint("m", URL, KEY, context), native_tool_calling=True)
    assert ("64,000" in (TARGETS["hermes"].refuses(llm) or "")) is refused


def test_a_provider_of_gooses_goes_as_a_whole_since_a_malformed_one_breaks_all() -> None:
    target, chosen = TARGETS["goose"], place(ROOT)
    before = dict.fromkeys(target.paths(chosen, LARGE))
    after = target.connect(before, chosen, LARGE)
    edited = {
        path: text and text.replace('"timeout_seconds"', '"theirs": 1, "timeout_seconds"') for path, text in after.items()
    }
    assert target.disconnect(edited, before, after) == before


def test_a_model_of_the_same_name_that_qwen_code_would_take_is_a_fault() -> None:
    target, chosen = TARGETS["qwen"], place(ROOT)
    (path,) = target.paths(chosen, LARGE)
    theirs = '{"modelProviders": {"openai": [{"id": "qwen2.5-coder", "baseUrl": "http://10.0.0.7:8000/v1", "envKey": "X"}]}}'
    with pytest.raises(LauncherError, match=r"another model called qwen2\.5-coder"):
        target.connect({path: theirs}, chosen, LARGE)
    ours = target.connect({path: None}, chosen, LARGE)
    assert target.connect(ours, chosen, LARGE) == ours
