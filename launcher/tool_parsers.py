"""Which of an engine's tool parsers reads the calls that a model writes: by its chat template, else by its family.

The template decides first, since a fine-tune teaches another notation than its base's. Names and notations are vLLM 0.32's
(tool_parsers/__init__.py, and the tokens at the top of each parser there).
"""

from collections.abc import Mapping

# DeepSeek's tokens are written with this bar.
_BAR = "\uff5c"
# What stands in the template, all of it -> the parser. The more telling stand first: several write <tool_call>.
_NOTATIONS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("[TOOL_CALLS]",), "mistral"),
    ((f"<{_BAR}DSML{_BAR}",), "deepseek_v32"),
    ((f"<{_BAR}tool▁calls▁begin{_BAR}>", "```json"), "deepseek_v3"),
    ((f"<{_BAR}tool▁calls▁begin{_BAR}>",), "deepseek_v31"),
    (("<|tool_calls_section_begin|>",), "kimi_k2"),
    (("<minimax:tool_call>",), "minimax_m2"),
    (("<seed:tool_call>",), "seed_oss"),
    (("<longcat_tool_call>",), "longcat"),
    (("<|tool_call_start|>",), "lfm2"),
    (("<start_function_call>",), "functiongemma"),
    (("<tool_call>", "<arg_key>"), "glm45"),
    (("<tool_call>", "<function="), "qwen3_coder"),
    (("<tool_call>",), "hermes"),
    (("<|python_tag|>",), "llama3_json"),
    (("Environment: ipython", '"parameters"'), "llama3_json"),
)
# Families with a parser of their own, if only the template has a place for tools.
_OWN: Mapping[str, str] = {
    "ernie4_5_moe": "ernie45",
    "gemma4": "gemma4",
    "gpt_oss": "openai",
    "granite": "granite",
    "granitemoehybrid": "granite4",
    "hunyuan_v1_moe": "hunyuan_a13b",
    "jamba": "jamba",
    "llama4": "llama4_pythonic",
    "olmo3": "olmo3",
    "step3p5": "step3p5",
}
# Families whose chat format the engine itself knows (vLLM: tokenizers/).
_WITHOUT_TEMPLATE: Mapping[str, str] = {
    "deepseek_v32": "deepseek_v32",
    "deepseek_v4": "deepseek_v4",
    "ministral3": "mistral",
    "mistral": "mistral",
    "mistral3": "mistral",
}


def vllm(model_type: str, template: str) -> str | None:
    """The parser that vLLM needs for a model; None where none is known, and agents describe their tools in the prompt."""
    if not template:
        return _WITHOUT_TEMPLATE.get(model_type)
    if parser := _OWN.get(model_type):
        return parser if "tools" in template else None
    return next((parser for tokens, parser in _NOTATIONS if all(token in template for token in tokens)), None)
