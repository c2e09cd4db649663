"""Who may import whom: the executable form of DESIGN.md. A change here is an architecture decision."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "launcher"

# From the inside out. A module may import modules of earlier layers and of its own.
LAYERS = (
    ("words", {"errors", "progress", "__init__"}),
    ("values", {
        "gpu", "command", "endpoint", "llm", "architecture", "layers", "parts", "quantisation", "profile_weights",
        "unit", "memory", "profile", "profile_check", "plan", "release", "environment",
        "finding", "clearance", "prepared", "weight_files", "packed", "providers", "verified",
        "starts", "phases", "watch",
        "gateway.table", "gateway.limits", "gateway.paths", "forms",
    }),
    ("protocols", {
        "engines.base", "runners.base", "wiring.base", "running.base", "exporting.base", "results", "home", "server",
    }),
    ("texts", {
        "wiring.spans", "wiring.slots", "wiring.jsonc", "wiring.yaml_rows", "wiring.json_slots", "wiring.toml_lines",
        "wiring.toml_rows", "exporting.images",
    }),
    ("decisions", {
        "lifecycle", "swap", "carrying", "remote", "routing", "exposure",
        "planner", "fitting", "cuda", "diagnosis", "machines", "parsers", "derive", "recipe", "recipe_options", "engine_args",
        "engines.vllm", "engines.vllm_layouts", "engines.vllm_log", "engines.vllm_memory",
        "engines.vllm_faults", "engines.sglang_faults", "engines.library_faults",
        "engines.sglang", "engines.yarn", "engines.sglang_memory", "engines.sglang_log", "correction", "estimate",
        "wiring.openhands_profile", "wiring.openhands_toml",
        "wiring.openhands_cli", "openhands_llm", "wiring.openhands_settings",
        "running.aider", "running.claude", "running.codex", "running.goose", "running.llm", "running.opencode",
        "running.openhands", "running.qwen",
        "wiring.opencode", "wiring.kilo", "wiring.claude", "wiring.qwen", "wiring.pi", "wiring.litellm", "wiring.llm",
        "wiring.aider", "wiring.continue_", "wiring.codex", "wiring.goose", "wiring.zed", "wiring.hermes", "wiring.openclaw",
        "exporting.systemd", "exporting.compose", "exporting.kubernetes", "exporting.skypilot", "exporting.ray",
        "exporting.env", "exporting.litellm",
        "llm_env", "client_env", "llm_settings", "retries", "tool_call",
        "checks.docker", "checks.graphics", "checks.home", "checks.network", "checks.system", "docker_faults",
        "fetch_plan", "retrying", "pace",
        "gateway.answers", "gateway.body", "gateway.decisions", "gateway.relay", "gateway.spread", "gateway.tally",
        "gateway.turns",
    }),
    ("registries", {"engines.registry", "wiring.registry", "running.registry", "exporting.registry"}),
    ("doors", {
        "atomic", "child", "disk", "docker", "images", "nvml", "host", "keys", "lock", "ports", "processes", "runners.local",
        "runners.ray", "runners.docker",
        "pip_settings", "uv",
        "runners.spares", "environments", "installing", "inspecting", "resolving", "weights", "catalogue", "probe", "store",
        "history", "systemd", "wiring.apply", "interfaces",
        "wiring.diff", "wiring.records", "wiring.pointing", "containers",
        "staging", "hub", "recipe_site", "nvlink", "local_model", "model_facts", "tail",
        "stock", "surroundings", "reach", "sizes", "background", "configurations", "litellm_list", "asking", "agent_server",
        "hub_cache", "hub_faults", "hub_fetch", "transfer", "promises", "fetching", "weights_record", "verifying", "modelscope",
        "gateway.access_log", "gateway.exchange", "gateway.front", "gateway.gateway", "gateway.links", "gateway.metrics",
        "gateway.accepting", "gateway.pages", "gateway.switchboard", "gateway.tls", "gateway.tunnel",
        "running.execution",
    }),
    ("work", {
        "world", "telling", "introducing",
        "preparing", "launching", "deciding", "measuring", "serving", "examining", "clearing", "stopwatch",
        "beside", "books", "acts", "supervisor", "hosting", "remotes", "listeners", "exposing", "following", "packing",
    }),
    ("verbs", {f"commands.{verb}" for verb in (
        "chat", "clean", "doctor", "down", "engines", "engines_add", "engines_check", "engines_install", "engines_remove",
        "engines_use", "explain", "gpus", "keys", "keys_add", "keys_remove", "logs", "models", "models_add", "models_check",
        "models_show", "plan", "ps", "serve", "unwire", "up", "up_result", "wires", "pull", "pack", "models_verify",
        "models_rm", "swap", "sleep", "alias", "enable", "wire", "wire_check", "wire_result", "run",
        "disable", "export", "llm", "llm_add", "llm_edit", "llm_env", "llm_rm", "llm_serve", "llm_show", "llm_test",
        "llm_use",
    )}),
    ("surface", {"screen", "person", "words", "cli", "__main__"}),
)  # fmt: skip

# Run by an engine's interpreter, never imported.
SCRIPTS = {
    "conversion", "inspection", "engines.sglang_start", "engines.vllm_start", "runners.gang", "runners.spare",
    "modelscope_fetch",
}  # fmt: skip

# Values and decisions are computed: nothing in them may touch the machine.
PURE = {"words", "values", "protocols", "texts", "decisions", "registries"}
EFFECTS = {
    "subprocess",
    "socket",
    "shutil",
    "tempfile",
    "urllib",
    "http",
    "psutil",
    "pynvml",
    "huggingface_hub",
    "aiohttp",
    "httpx",
    "litellm",
}
# Reading verbs answer at once: these are imported inside the function that needs them.
HEAVY = {
    *(
        "huggingface_hub",
        "litellm",
        "aiohttp",
        "httpx",
        "rich",
        "tomlkit",
        "yaml",
        "platformdirs",
        "pynvml",
        "uv",
        "prometheus_client",
    ),
}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {
    module_of(path): path
    for path in ROOT.rglob("*.py")
    if path.read_text().strip() and not path.is_relative_to(ROOT / "profiles")
}
LAYER_OF = {module: number for number, (_, modules) in enumerate(LAYERS) for module in modules}


def imports(path: Path, *, inside_functions: bool = True) -> set[str]:
    """The modules that a file imports, ours by their name below `launcher`; TYPE_CHECKING blocks count as inside."""
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree) if inside_functions else iter(tree.body)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole.removeprefix("launcher.") in MODULES else node.module or "")
    return found


@pytest.mark.parametrize("module", sorted(set(MODULES) - SCRIPTS))
def test_a_module_stands_in_one_layer_and_imports_only_inwards(module: str) -> None:
    assert module in LAYER_OF, f"{module} stands in no layer: decide where it belongs"
    ours = {name.removeprefix("launcher.") for name in imports(MODULES[module]) if name.startswith("launcher.")}
    wrong = {name for name in ours if name in LAYER_OF and LAYER_OF[name] > LAYER_OF[module]}
    assert not wrong, f"{module} ({LAYERS[LAYER_OF[module]][0]}) imports outwards: {wrong}"
    unknown = ours - set(LAYER_OF) - {"__init__"}
    assert not unknown, f"{module} imports what stands in no layer: {unknown}"


@pytest.mark.parametrize("module", sorted(name for name in MODULES if name in LAYER_OF and LAYERS[LAYER_OF[name]][0] in PURE))
def test_values_and_decisions_touch_nothing_outside(module: str) -> None:
    used = {name.split(".")[0] for name in imports(MODULES[module])}
    assert not used & EFFECTS


@pytest.mark.parametrize("module", sorted(set(MODULES) - SCRIPTS))
def test_heavy_libraries_are_imported_where_they_are_used(module: str) -> None:
    assert not {name.split(".")[0] for name in imports(MODULES[module], inside_functions=False)} & HEAVY


def test_the_table_names_no_module_that_is_gone() -> None:
    assert set(LAYER_OF) <= set(MODULES)


@pytest.mark.parametrize("package", ["engines", "wiring", "running", "exporting"])
def test_an_adapter_is_named_in_its_registry_alone(package: str) -> None:
    inside = {name for name in set(MODULES) - SCRIPTS if name.startswith(f"{package}.")}
    adapters = {name for name in inside if LAYERS[LAYER_OF[name]][0] == "decisions"}
    assert adapters
    for module, path in MODULES.items():
        ours = {name.removeprefix("launcher.") for name in imports(path) if name.startswith("launcher.")}
        if module != f"{package}.registry" and module not in adapters:
            assert not ours & adapters, f"{module} names an adapter"
