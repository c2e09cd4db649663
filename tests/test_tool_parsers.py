import pytest

from launcher import tool_parsers

# How each template writes a call, as it stands in the repository that is named.
HERMES = '<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
CODER = "<tool_call>\n<function=example_function_name>\n<parameter=example_parameter_1>"
LLAMA = 'Environment: ipython ... {"name": function name, "parameters": dictionary of argument name and its value}'
DEEPSEEK = "<\uff5ctool▁calls▁begin\uff5c><\uff5ctool▁call▁begin\uff5c>"


@pytest.mark.parametrize(
    ("model_type", "template", "parser"),
    [
        pytest.param("qwen2", HERMES, "hermes", id="Qwen/Qwen2.5-Coder-7B-Instruct"),
        pytest.param("qwen3", HERMES, "hermes", id="Qwen/Qwen3-8B"),
        pytest.param("qwen3_moe", CODER, "qwen3_coder", id="Qwen/Qwen3-Coder-30B-A3B-Instruct"),
        pytest.param("llama", LLAMA, "llama3_json", id="meta-llama/Llama-3.2-3B-Instruct"),
        pytest.param("llama", "<|python_tag|>" + LLAMA, "llama3_json", id="meta-llama/Llama-3.1-8B-Instruct"),
        pytest.param("llama", HERMES, "hermes", id="NousResearch/Hermes-3-Llama-3.1-8B: the fine-tune's notation counts"),
        pytest.param("llama", "{{ messages }}", None, id="a Llama that knows no tools"),
        pytest.param("llama4", "{{ tools }}", "llama4_pythonic", id="meta-llama/Llama-4-Scout-17B-16E-Instruct"),
        pytest.param("mistral", "[AVAILABLE_TOOLS] [TOOL_CALLS]", "mistral", id="mistralai/Mistral-7B-Instruct-v0.3"),
        pytest.param("mistral3", "", "mistral", id="mistralai/Devstral-Small-2507: its tokenizer needs no template"),
        pytest.param("mistral", "{{ messages }}", None, id="a Mistral that knows no tools"),
        pytest.param("deepseek_v3", DEEPSEEK + "\n```json\n", "deepseek_v3", id="deepseek-ai/DeepSeek-V3-0324"),
        pytest.param("deepseek_v3", DEEPSEEK, "deepseek_v31", id="deepseek-ai/DeepSeek-V3.1"),
        pytest.param("deepseek_v32", "", "deepseek_v32", id="deepseek-ai/DeepSeek-V3.2: it has no template"),
        pytest.param("glm4_moe", "<tool_call>{name}\n<arg_key>", "glm45", id="zai-org/GLM-4.5-Air"),
        pytest.param("kimi_k2", "<|tool_calls_section_begin|>", "kimi_k2", id="moonshotai/Kimi-K2-Instruct"),
        pytest.param("minimax_m2", "<minimax:tool_call>", "minimax_m2", id="MiniMaxAI/MiniMax-M2"),
        pytest.param("seed_oss", "<seed:tool_call>", "seed_oss", id="ByteDance-Seed/Seed-OSS-36B-Instruct"),
        pytest.param("gpt_oss", "{{ tools }}", "openai", id="openai/gpt-oss-20b"),
        pytest.param("granite", "<|tool_call|> {{ tools }}", "granite", id="ibm-granite/granite-3.3-8b-instruct"),
        pytest.param("qwen2", "", None, id="a model without a template"),
    ],
)
def test_the_parser_follows_the_notation_of_the_template(model_type: str, template: str, parser: str | None) -> None:
    assert tool_parsers.vllm(model_type, template) == parser
