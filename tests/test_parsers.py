import pytest

from launcher import parsers

# How each template writes a call, as it stands in the repository that is named.
HERMES = '<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
CODER = "<tool_call>\n<function=example_function_name>\n<parameter=example_parameter_1>"
LLAMA = 'Environment: ipython ... {"name": function name, "parameters": dictionary of argument name and its value}'
DEEPSEEK = "<\uff5ctool▁calls▁begin\uff5c><\uff5ctool▁call▁begin\uff5c>"


@pytest.mark.parametrize(
    ("model_type", "template", "vllm", "sglang"),
    [
        pytest.param("qwen2", HERMES, "hermes", "hermes", id="Qwen/Qwen2.5-Coder-7B-Instruct"),
        pytest.param("qwen3", HERMES, "hermes", "hermes", id="Qwen/Qwen3-8B"),
        pytest.param("qwen3_moe", CODER, "qwen3_coder", "qwen3_coder", id="Qwen/Qwen3-Coder-30B-A3B-Instruct"),
        pytest.param("llama", LLAMA, "llama3_json", "llama3", id="meta-llama/Llama-3.2-3B-Instruct"),
        pytest.param("llama", "<|python_tag|>" + LLAMA, "llama3_json", "llama3", id="meta-llama/Llama-3.1-8B-Instruct"),
        pytest.param("llama", HERMES, "hermes", "hermes", id="NousResearch/Hermes-3-Llama-3.1-8B: the fine-tune's notation"),
        pytest.param("llama", "{{ messages }}", None, None, id="a Llama that knows no tools"),
        pytest.param("llama4", "{{ tools }}", "llama4_pythonic", "pythonic", id="meta-llama/Llama-4-Scout-17B-16E-Instruct"),
        pytest.param("mistral", "[AVAILABLE_TOOLS] [TOOL_CALLS]", "mistral", "mistral", id="mistralai/Mistral-7B-v0.3"),
        pytest.param("mistral3", "", "mistral", "mistral", id="mistralai/Devstral-Small-2507: its tokenizer needs no template"),
        pytest.param("mistral", "{{ messages }}", None, None, id="a Mistral that knows no tools"),
        pytest.param("deepseek_v3", DEEPSEEK + "\n```json\n", "deepseek_v3", "deepseekv3", id="deepseek-ai/DeepSeek-V3-0324"),
        pytest.param("deepseek_v3", DEEPSEEK, "deepseek_v31", "deepseekv31", id="deepseek-ai/DeepSeek-V3.1"),
        pytest.param("deepseek_v32", "", "deepseek_v32", "deepseekv32", id="deepseek-ai/DeepSeek-V3.2: it has no template"),
        pytest.param("glm4_moe", "<tool_call>{name}\n<arg_key>", "glm45", "glm45", id="zai-org/GLM-4.5-Air"),
        pytest.param("glm4_moe_lite", "{{ tools }} <tool_call><arg_key>", "glm47", "glm47", id="zai-org/GLM-4.7-Flash"),
        pytest.param("kimi_k2", "<|tool_calls_section_begin|>", "kimi_k2", "kimi_k2", id="moonshotai/Kimi-K2-Instruct"),
        pytest.param("minimax_m2", "<minimax:tool_call>", "minimax_m2", "minimax-m2", id="MiniMaxAI/MiniMax-M2"),
        pytest.param("seed_oss", "<seed:tool_call>", "seed_oss", None, id="ByteDance-Seed/Seed-OSS-36B-Instruct"),
        pytest.param("gpt_oss", "{{ tools }}", "openai", "gpt-oss", id="openai/gpt-oss-20b"),
        pytest.param("granite", "<|tool_call|> {{ tools }}", "granite", None, id="ibm-granite/granite-3.3-8b-instruct"),
        pytest.param("qwen2", "", None, None, id="a model without a template"),
    ],
)
def test_the_parser_follows_the_notation_of_the_template(
    model_type: str, template: str, vllm: str | None, sglang: str | None
) -> None:
    found = parsers.tools(model_type, template)
    assert (found.get("vllm"), found.get("sglang")) == (vllm, sglang)


# The end of each template, where the prompt for an answer is written.
SWITCHED = "{% if add_generation_prompt %}{% if enable_thinking is false %}<think>\n\n</think>{% endif %}{% endif %}"
OPENED = "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
SILENT = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
BY_NAME = "{% if add_generation_prompt %}{% if not thinking %}</think>{% else %}<think>{% endif %}{% endif %}"


@pytest.mark.parametrize(
    ("model_type", "template", "vllm", "sglang"),
    [
        pytest.param("qwen3", SWITCHED, "qwen3", "qwen3", id="Qwen/Qwen3-8B: it thinks unless told not to"),
        pytest.param("qwen3_moe", SILENT, None, None, id="Qwen/Qwen3-30B-A3B-Instruct-2507: it never thinks"),
        pytest.param("qwen2", OPENED, "deepseek_r1", "deepseek-r1", id="Qwen/QwQ-32B: it always thinks"),
        pytest.param("qwen2", "<think> in an old answer" + SILENT, None, None, id="a model that only hides others' thoughts"),
        pytest.param("deepseek_v3", BY_NAME, "deepseek_v3", "deepseek-v3", id="deepseek-ai/DeepSeek-V3.1"),
        pytest.param("deepseek_v4", "", "deepseek_v4", "deepseek-v4", id="deepseek-ai/DeepSeek-V4-Flash: it has no template"),
        pytest.param("glm4_moe", SWITCHED, "glm45", "glm45", id="zai-org/GLM-4.5-Air"),
        pytest.param("gpt_oss", SILENT, "openai_gptoss", "gpt-oss", id="openai/gpt-oss-20b: in a channel of its own"),
        pytest.param("minimax_m2", OPENED, "minimax_m2", "minimax", id="MiniMaxAI/MiniMax-M2"),
        pytest.param("kimi_k2", "<think>" + SILENT, "kimi_k2", "kimi_k2", id="moonshotai/Kimi-K2-Thinking: it opens it itself"),
        pytest.param("kimi_k2", SILENT, None, None, id="moonshotai/Kimi-K2-Instruct"),
        pytest.param("mistral3", "[THINK] {{ x }} " + SILENT, "mistral", "mistral", id="mistralai/Magistral-Small-2509"),
        pytest.param("mistral3", "", None, None, id="mistralai/Devstral-Small-2507"),
        pytest.param("seed_oss", OPENED, "seed_oss", None, id="a family that only one engine knows"),
        pytest.param("llama", SILENT, None, None, id="meta-llama/Llama-3.1-8B-Instruct"),
        pytest.param("llama", "", None, None, id="a model without a template"),
    ],
)
def test_thoughts_are_read_where_the_template_lets_a_model_think(
    model_type: str, template: str, vllm: str | None, sglang: str | None
) -> None:
    found = parsers.reasoning(model_type, template)
    assert (found.get("vllm"), found.get("sglang")) == (vllm, sglang)
