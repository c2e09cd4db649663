"""A provider's model as the gateway asks it: where, by what paths, with which key. Decisions only."""

import re
from collections.abc import Iterator

from launcher.errors import LauncherError
from launcher.gateway.table import Remote
from launcher.llm import LLMConfig
from launcher.providers import PROVIDERS, Api

_ADDRESS = re.compile(r"(https?)://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(\d{1,5}))?((?:/[A-Za-z0-9._~%!$&'()*+,;=:@-]*)*)")
# What can stand in a request's target as it is (RFC 3986, 2.3).
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]+")
# A header's value as every server takes it (RFC 9110, 5.5).
_VALUE = re.compile(r"[!-~]([ -~]*[!-~])?")
_PORTS = {"http": 80, "https": 443}


def remote(llm: LLMConfig) -> Remote:
    """The model of a configuration; raises LauncherError for one that a gateway cannot ask, with the reason."""
    provider = PROVIDERS.get(llm.provider)
    if provider is None or provider.api is None:
        title = provider.title if provider else llm.provider
        raise LauncherError(
            f"{llm.name} cannot be asked by the gateway: requests to {title} are signed by its own libraries",
            hint="a LiteLLM proxy before it signs them: launcher llm add NAME --provider litellm",
        )
    api = provider.api
    if provider.key and not llm.api_key:
        raise LauncherError(f"{llm.name} has no key", hint=f"launcher llm edit {llm.name} --new-key")
    scheme, host, port, base = _place(llm, api)
    model = llm.model.removeprefix(f"{provider.prefix}/")
    named = f"Host: {host}" if port == _PORTS[scheme] else f"Host: {host}:{port}"
    heads = []
    for path in api.paths:
        first = f"POST {_target(llm, api, base, model, path)} HTTP/1.1"
        lines = (first, named, *_headers(llm, api, path), "Content-Type: application/json", "")
        heads.append((path, "\r\n".join(lines).encode()))
    return Remote(host.strip("[]"), port, tls=scheme == "https", model=model, heads=tuple(heads))


def is_here(remote: Remote) -> bool:
    """Whether what is sent there stays on this machine, as far as its address says."""
    return remote.host in {"localhost", "::1"} or remote.host.startswith("127.")


def _place(llm: LLMConfig, api: Api) -> tuple[str, str, int, str]:
    address = llm.base_url or api.address
    found = _ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found[3] or 1) < 1 << 16:
        fault = f"its address {address} is none that the gateway can ask" if address else "it has no address"
        raise LauncherError(f"{llm.name}: {fault}", hint=f"launcher llm edit {llm.name} --set base_url=https://HOST/v1")
    scheme, host, port, base = found.groups()
    return scheme, host.lower(), int(port or _PORTS[scheme]), base.rstrip("/")


def _target(llm: LLMConfig, api: Api, base: str, model: str, path: str) -> str:
    for place, name, text in (("{model}", "model", model), ("{version}", "api_version", llm.api_version or "")):
        if place in api.target and not _UNRESERVED.fullmatch(text):
            hint = f"launcher llm edit {llm.name} --set {name}=..."
            raise LauncherError(f"{llm.name}: {name} = {text!r} cannot be part of an address", hint=hint)
    return api.target.format(base=base, way=path.removeprefix("/v1"), model=model, version=llm.api_version)


def _headers(llm: LLMConfig, api: Api, path: str) -> Iterator[str]:
    if llm.api_key and not _VALUE.fullmatch(llm.api_key):
        hint = f"launcher llm edit {llm.name} --new-key"
        raise LauncherError(f"the key of {llm.name} has characters that no header takes", hint=hint)
    if llm.api_key:
        yield api.key_of.get(path, api.key).format(key=llm.api_key)
    for name, value in (("HTTP-Referer", llm.openrouter_site_url), ("X-Title", llm.openrouter_app_name)):
        if value and _VALUE.fullmatch(value):
            yield f"{name}: {value}"
