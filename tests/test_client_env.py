import pytest

from launcher import llm_env, words
from launcher.client_env import CLIENTS
from launcher.endpoint import Endpoint
from launcher.llm import LLMConfig

LOCAL = LLMConfig.of(Endpoint("qwen", "http://127.0.0.1:8400/v1", "sk-key", 32_768), native_tool_calling=True)


@pytest.mark.parametrize(
    ("client", "address", "key", "model"),
    [
        pytest.param("openai", "OPENAI_BASE_URL", "OPENAI_API_KEY", "OPENAI_MODEL", id="OpenAI's SDK and LangChain"),
        pytest.param("openai", "OPENAI_API_BASE", "OPENAI_API_KEY", "OPENAI_MODEL", id="LlamaIndex"),
        pytest.param("litellm", "HOSTED_VLLM_API_BASE", "HOSTED_VLLM_API_KEY", None, id="LiteLLM"),
        pytest.param("copilot", "COPILOT_PROVIDER_BASE_URL", "COPILOT_PROVIDER_API_KEY", "COPILOT_MODEL", id="Copilot"),
        pytest.param("open-webui", "OPENAI_API_BASE_URLS", "OPENAI_API_KEYS", None, id="Open WebUI"),
    ],
)
def test_a_client_is_told_where_with_what_and_which_model(client: str, address: str, key: str, model: str | None) -> None:
    variables = CLIENTS[client].variables(LOCAL)
    assert variables[address] == "http://127.0.0.1:8400/v1"
    assert variables[key] == "sk-key"
    assert model is None or variables[model] == "qwen"


def test_anthropics_clients_add_the_path_themselves_and_send_a_token() -> None:
    variables = CLIENTS["anthropic"].variables(LOCAL)
    assert variables["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:8400"
    assert variables.get("ANTHROPIC_AUTH_TOKEN") == LOCAL.api_key
    assert "ANTHROPIC_API_KEY" not in variables


def test_copilot_knows_how_much_it_may_send_and_ask_for() -> None:
    variables = CLIENTS["copilot"].variables(LOCAL)
    limits = [variables[f"COPILOT_PROVIDER_MAX_{kind}_TOKENS"] for kind in ("PROMPT", "OUTPUT")]
    assert limits == ["22118", "8192"]  # what LLMConfig.of makes of 32,768


@pytest.mark.parametrize("client", CLIENTS)
def test_the_one_variable_with_the_key_is_known(client: str) -> None:
    variables = CLIENTS[client].variables(LOCAL)
    (name,) = llm_env.secret_names(LOCAL, variables)
    assert variables[name] == "sk-key"
    assert "sk-key" not in " ".join(CLIENTS[client].notes(LOCAL))


def test_what_litellm_must_be_told_in_python_is_python() -> None:
    from ast import parse

    assert [parse(note) for note in CLIENTS["litellm"].notes(LOCAL)]


def test_the_help_names_each_client_and_the_words_know_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(words.UsageError, match=f"known: {', '.join(CLIENTS)}$"):
        words.parse(["llm", "env", "x", "--for", "nobody"])
    assert words.parse(["llm", "env", "x"]).client == llm_env.CLIENT
    with pytest.raises(SystemExit):
        words.parse(["llm", "env", "--help"])
    named = ", ".join(name for name in CLIENTS if name != llm_env.CLIENT)
    assert f"if nobody's: {named} " in " ".join(capsys.readouterr().out.split())
