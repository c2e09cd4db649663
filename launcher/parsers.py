"""Which of an engine's parsers read a model's tool calls and its thoughts: by its chat template, else by its family.

The template decides first, since a fine-tune teaches another notation than its base's. Names and notations are those of vLLM
0.32 (tool_parsers/__init__.py, reasoning/__init__.py, and the tokens at the top of each parser) and of SGLang 0.5.23
(srt/function_call/function_call_parser.py, srt/parser/reasoning_parser.py).
"""

from collections.abc import Mapping

VLLM, SGLANG = "vllm", "sglang"
# A parser's name in vLLM and in SGLang; None where that engine has none.
Names = tuple[str | None, str | None]

# DeepSeek's tokens are written with this bar.
_BAR = "\uff5c"
# What stands in the template, all of it. The more telling stand first: several write <tool_call>.
_NOTATIONS: tuple[tuple[tuple[str, ...], Names], ...] = (
    (("[TOOL_CALLS]",), ("mistral", "mistral")),
    ((f"<{_BAR}DSML{_BAR}",), ("deepseek_v32", "deepseekv32")),
    ((f"<{_BAR}tool▁calls▁begin{_BAR}>", "```json"), ("deepseek_v3", "deepseekv3")),
    ((f"<{_BAR}tool▁calls▁begin{_BAR}>",), ("deepseek_v31", "deepseekv31")),
    (("<|tool_calls_section_begin|>",), ("kimi_k2", "kimi_k2")),
    (("<minimax:tool_call>",), ("minimax_m2", "minimax-m2")),
    (("<seed:tool_call>",), ("seed_oss", None)),
    (("<longcat_tool_call>",), ("longcat", None)),
    (("<|tool_call_start|>",), ("lfm2", "lfm2")),
    (("<start_function_call>",), ("functiongemma", None)),
    (("<tool_call>", "<arg_key>"), ("glm45", "glm45")),
    (("<tool_call>", "<function="), ("qwen3_coder", "qwen3_coder")),
    # Not SGLang's qwen25: it takes only calls with a line break after the tag.
    (("<tool_call>",), ("hermes", "hermes")),
    (("<|python_tag|>",), ("llama3_json", "llama3")),
    (("Environment: ipython", '"parameters"'), ("llama3_json", "llama3")),
)
# Families with a parser of their own, if only the template has a place for tools.
_OWN: Mapping[str, Names] = {
    "ernie4_5_moe": ("ernie45", None),
    "gemma4": ("gemma4", "gemma4"),
    "glm4_moe_lite": ("glm47", "glm47"),
    "glm_moe_dsa": ("glm47", "glm47"),
    "gpt_oss": ("openai", "gpt-oss"),
    "granite": ("granite", None),
    "granitemoehybrid": ("granite4", None),
    "hunyuan_v1_moe": ("hunyuan_a13b", None),
    "jamba": ("jamba", None),
    "laguna": ("poolside_v1", "poolside_v1"),
    "llama4": ("llama4_pythonic", "pythonic"),
    "olmo3": ("olmo3", "pythonic"),
    "step3p5": ("step3p5", "step3p5"),
}
# Families whose chat format the engine itself knows (vLLM: tokenizers/).
_WITHOUT_TEMPLATE: Mapping[str, Names] = {
    "deepseek_v32": ("deepseek_v32", "deepseekv32"),
    "deepseek_v4": ("deepseek_v4", "deepseekv4"),
    "ministral3": ("mistral", "mistral"),
    "mistral": ("mistral", "mistral"),
    "mistral3": ("mistral", "mistral"),
}

# How a family marks its thoughts, where not by what others do.
_THOUGHTS: Mapping[str, Names] = {
    "deepseek_v4": ("deepseek_v4", "deepseek-v4"),
    "ernie4_5_moe": ("ernie45", None),
    "gemma4": ("gemma4", "gemma4"),
    "glm4_moe": ("glm45", "glm45"),
    "glm4_moe_lite": ("glm47", "glm45"),
    "glm_moe_dsa": ("glm47", "glm45"),
    "gpt_oss": ("openai_gptoss", "gpt-oss"),
    "hunyuan_v1_moe": ("hunyuan_a13b", "hunyuan"),
    "kimi_k2": ("kimi_k2", "kimi_k2"),
    "laguna": ("poolside_v1", "poolside_v1"),
    "mimo_v2_flash": ("mimo", "mimo"),
    "minimax_m2": ("minimax_m2", "minimax"),
    "nemotron_h": ("nemotron_v3", "nemotron_3"),
    "olmo3": ("olmo3", None),
    "seed_oss": ("seed_oss", None),
    "step3p5": ("step3p5", "step3p5"),
}
_ALWAYS_THINKS = frozenset({"gpt_oss", "minimax_m2"})
# The template's switch -> the parser that knows it. Without a switch a model always thinks, and its template opens the tag.
_SWITCHES: tuple[tuple[str, Names], ...] = (
    ("enable_thinking", ("qwen3", "qwen3")),
    ("thinking", ("deepseek_v3", "deepseek-v3")),
)
_ALWAYS: Names = ("deepseek_r1", "deepseek-r1")


def tools(model_type: str, template: str) -> Mapping[str, str]:
    """The parser of tool calls by engine; none where none is known, and agents describe their tools in the prompt."""
    if not template:
        return _by_engine(_WITHOUT_TEMPLATE.get(model_type))
    if names := _OWN.get(model_type):
        return _by_engine(names if "tools" in template else None)
    return _by_engine(next((names for tokens, names in _NOTATIONS if all(token in template for token in tokens)), None))


def reasoning(model_type: str, template: str) -> Mapping[str, str]:
    """The parser of thoughts by engine; none for a model that does not think, or whose notation no engine knows."""
    if "[THINK]" in template:
        return _by_engine(("mistral", "mistral"))
    # Where the prompt for an answer is written, a template opens the tag of thoughts, or closes it at once.
    _, told, opening = template.rpartition("add_generation_prompt")
    thinks = ("think" in opening if told else "<think>" in template) or (model_type == "kimi_k2" and "<think>" in template)
    if not thinks and model_type not in _ALWAYS_THINKS and not (model_type in _WITHOUT_TEMPLATE and model_type in _THOUGHTS):
        return {}
    if names := _THOUGHTS.get(model_type):
        return _by_engine(names)
    return _by_engine(next((names for switch, names in _SWITCHES if switch in opening), _ALWAYS))


def _by_engine(names: Names | None) -> Mapping[str, str]:
    return {engine: name for engine, name in zip((VLLM, SGLANG), names or (), strict=False) if name}
