"""The providers of models, and what each needs before it answers. One entry is all that a new one takes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

# The paths of ours that providers have.
_CHAT = "/v1/chat/completions"
_MESSAGES = ("/v1/messages", "/v1/messages/count_tokens")
_ALL = (_CHAT, "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/rerank", *_MESSAGES)


@dataclass(frozen=True, slots=True)
class Api:
    """How a provider takes what our own clients send, with another model's name in it and nothing else changed.

    `address` is the provider's own, "" where the base URL alone says it; `target` what is asked for of it, with {base} for the
    address' path, {way} for ours without /v1, {model} and {version}. `paths` are ours that the provider has, `key` the header
    of its key, `key_of` another one by our path.
    """

    address: str = ""
    target: str = "{base}{way}"
    paths: tuple[str, ...] = (_CHAT,)
    key: str = "Authorization: Bearer {key}"
    key_of: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider as LiteLLM and OpenHands know it.

    `prefix` stands before the model's name. `needs` are fields that must be said, `usual` the variables from which each field
    is taken where it was not; `environment` must be in the agent's own environment, since no field can hold it. `address` says
    what the base URL is, "" where the provider has its own; `guide` is the page that this entry is after, read on CHECKED.
    `api` is None where requests need more than a key: they are signed.
    """

    title: str
    prefix: str
    guide: str
    key: bool = True
    needs: tuple[str, ...] = ()
    usual: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    environment: tuple[str, ...] = ()
    address: str = ""
    paid: bool = True
    model: str = "the model's name"
    api: Api | None = None


CHECKED = "2026-11-22"
# Where OpenHands' own provider answers (openhands-sdk, llm.py).
OPENHANDS_PROXY = "https://llm-proxy.app.all-hands.dev"
_GUIDES = "https://docs.openhands.dev/openhands/usage/llms"
_LITELLM = "https://docs.litellm.ai/docs/providers"

PROVIDERS: Mapping[str, Provider] = MappingProxyType(
    {
        "azure": Provider(
            title="Azure OpenAI",
            prefix="azure",
            guide=f"{_GUIDES}/azure-llms",
            needs=("base_url", "api_version"),
            usual={
                "api_key": ("AZURE_API_KEY", "AZURE_OPENAI_API_KEY"),
                "base_url": ("AZURE_API_BASE", "AZURE_OPENAI_ENDPOINT"),
                "api_version": ("AZURE_API_VERSION", "OPENAI_API_VERSION"),
            },
            address="the endpoint, as https://NAME.openai.azure.com",
            model="the deployment's name",
            # learn.microsoft.com/azure/ai-services/openai/reference
            api=Api(
                target="{base}/openai/deployments/{model}{way}?api-version={version}",
                paths=(_CHAT, "/v1/completions", "/v1/embeddings"),
                key="api-key: {key}",
            ),
        ),
        "gemini": Provider(
            title="Google AI Studio",
            prefix="gemini",
            guide=f"{_GUIDES}/google-llms",
            usual={"api_key": ("GEMINI_API_KEY", "GOOGLE_API_KEY")},
            # ai.google.dev/gemini-api/docs/openai
            api=Api("https://generativelanguage.googleapis.com/v1beta", "{base}/openai{way}", (_CHAT, "/v1/embeddings")),
        ),
        "vertex": Provider(
            title="Google Vertex AI",
            prefix="vertex_ai",
            guide=f"{_GUIDES}/google-llms",
            key=False,
            environment=("GOOGLE_APPLICATION_CREDENTIALS", "VERTEXAI_PROJECT", "VERTEXAI_LOCATION"),
        ),
        "groq": Provider(
            title="Groq",
            prefix="groq",
            guide=f"{_GUIDES}/groq",
            usual={"api_key": ("GROQ_API_KEY",)},
            # console.groq.com/docs/api-reference
            api=Api("https://api.groq.com/openai/v1", paths=(_CHAT, "/v1/responses")),
        ),
        "openai": Provider(
            title="OpenAI",
            prefix="openai",
            guide=f"{_GUIDES}/openai-llms",
            usual={"api_key": ("OPENAI_API_KEY",)},
            # platform.openai.com/docs/api-reference
            api=Api("https://api.openai.com/v1", paths=(_CHAT, "/v1/completions", "/v1/responses", "/v1/embeddings")),
        ),
        "openrouter": Provider(
            title="OpenRouter",
            prefix="openrouter",
            guide=f"{_GUIDES}/openrouter",
            usual={
                "api_key": ("OPENROUTER_API_KEY",),
                "openrouter_site_url": ("OR_SITE_URL",),
                "openrouter_app_name": ("OR_APP_NAME",),
            },
            model="VENDOR/MODEL",
            # openrouter.ai/docs/api-reference
            api=Api("https://openrouter.ai/api/v1", paths=(_CHAT, "/v1/completions", "/v1/responses", "/v1/embeddings")),
        ),
        "anthropic": Provider(
            title="Anthropic",
            prefix="anthropic",
            guide=f"{_LITELLM}/anthropic",
            usual={"api_key": ("ANTHROPIC_API_KEY",)},
            # platform.claude.com/docs/en/api/openai-sdk for chat/completions, docs.anthropic.com/en/api/messages for the rest
            api=Api(
                "https://api.anthropic.com",
                "{base}/v1{way}",
                (_CHAT, *_MESSAGES),
                key_of=dict.fromkeys(_MESSAGES, "x-api-key: {key}"),
            ),
        ),
        "deepseek": Provider(
            title="DeepSeek",
            prefix="deepseek",
            guide=f"{_LITELLM}/deepseek",
            usual={"api_key": ("DEEPSEEK_API_KEY",)},
            # api-docs.deepseek.com
            api=Api("https://api.deepseek.com"),
        ),
        "mistral": Provider(
            title="Mistral",
            prefix="mistral",
            guide=f"{_LITELLM}/mistral",
            usual={"api_key": ("MISTRAL_API_KEY",)},
            # docs.mistral.ai/api
            api=Api("https://api.mistral.ai/v1", paths=(_CHAT, "/v1/embeddings")),
        ),
        "moonshot": Provider(
            title="Moonshot",
            prefix="moonshot",
            guide=f"{_GUIDES}/moonshot",
            usual={"api_key": ("MOONSHOT_API_KEY",)},
            # platform.moonshot.ai/docs/api/chat
            api=Api("https://api.moonshot.ai/v1"),
        ),
        "bedrock": Provider(
            title="AWS Bedrock",
            prefix="bedrock",
            guide=f"{_LITELLM}/bedrock",
            key=False,
            needs=("aws_region_name",),
            usual={
                "aws_access_key_id": ("AWS_ACCESS_KEY_ID",),
                "aws_secret_access_key": ("AWS_SECRET_ACCESS_KEY",),
                "aws_session_token": ("AWS_SESSION_TOKEN",),
                "aws_region_name": ("AWS_REGION_NAME", "AWS_REGION", "AWS_DEFAULT_REGION"),
            },
        ),
        "litellm": Provider(
            title="LiteLLM proxy",
            prefix="litellm_proxy",
            guide=f"{_GUIDES}/litellm-proxy",
            needs=("base_url",),
            usual={"api_key": ("LITELLM_PROXY_API_KEY",), "base_url": ("LITELLM_PROXY_API_BASE",)},
            address="the proxy's address, without /v1",
            paid=False,
            model="the name that the proxy serves",
            # docs.litellm.ai/docs/proxy/user_keys
            api=Api(target="{base}/v1{way}", paths=_ALL),
        ),
        "openhands": Provider(
            title="OpenHands",
            prefix="openhands",
            guide=f"{_GUIDES}/openhands-llms",
            usual={"api_key": ("OPENHANDS_API_KEY",)},
            # A LiteLLM proxy.
            api=Api(OPENHANDS_PROXY, "{base}/v1{way}", _ALL),
        ),
        "compatible": Provider(
            title="an OpenAI-compatible server",
            prefix="openai",
            guide=f"{_LITELLM}/openai_compatible",
            needs=("base_url",),
            # Not OPENAI_API_KEY: that one is for OpenAI, and would be sent to somebody else's address.
            usual={"api_key": ("LLM_API_KEY",), "base_url": ("LLM_BASE_URL",)},
            address="the address up to and with /v1",
            paid=False,
            model="the name that GET /v1/models lists",
            # docs.vllm.ai, OpenAI-compatible server: whoever has less says so itself
            api=Api(paths=_ALL),
        ),
    }
)


def with_prefix(provider: Provider, model: str) -> str:
    """The model as LiteLLM takes it: its name with the provider's prefix, which may have been typed already."""
    return model if model.startswith(f"{provider.prefix}/") else f"{provider.prefix}/{model}"


def guess(model: str) -> str | None:
    """The provider that a model's prefix names, or None; `openai/` alone means OpenAI itself."""
    prefix, slash, _ = model.partition("/")
    return next((key for key, each in PROVIDERS.items() if slash and each.prefix == prefix), None)


def address_fault(key: str, base_url: str) -> str | None:
    """Why a provider would not be found at such an address, or None."""
    path = base_url.partition("://")[2].partition("/")[2].rstrip("/")
    if key == "compatible" and not path:
        return f"{base_url} has no path: OpenAI-compatible servers answer under /v1"
    if key == "litellm" and path.endswith("v1"):
        return f"{base_url} ends in /v1: OpenHands asks a LiteLLM proxy for /v1/model/info below its address"
    if key == "azure" and path:
        return f"{base_url} has a path: Azure's endpoint is the host alone, the deployment is the model's name"
    return None
