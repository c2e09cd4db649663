"""The shipped profiles against what is published of their models, and of the engines that serve them."""

import tomllib

import pytest

from launcher import catalogue, memory, planner
from launcher.engines.registry import ENGINES
from launcher.machines import inventory_on
from launcher.plan import Plan
from launcher.profile import Profile

PROFILES = catalogue.load_all([catalogue.shipped()])

# What a published number of parameters counts. The hub counts the elements of a repository's safetensors.
STORED, NAME = "all that is loaded", "the number in the model's name, rounded"
WITH_DRAFTS = "draft heads too"
HEAD_TWICE = "a tied output head stored beside its embedding"
ITS_BASE = "all of the model that it was fine-tuned from"
DRAFTS_APART = "draft heads too, with an embedding and an output head of their own"
WITH_TOWERS = "all, with towers for images and sound, whose shapes are approximated"
ROUGHLY = "all, with a draft head that config.json does not tell"
# Norms' gates, positions of towers and biases of experts, which nothing is planned by, are not counted.
TOLERANCE = {STORED: 0.001, WITH_DRAFTS: 0.003, HEAD_TWICE: 0.001, ITS_BASE: 0.001, NAME: 0.02} | {
    DRAFTS_APART: 0.001,
    WITH_TOWERS: 0.016,
    ROUGHLY: 0.006,
}

# The names that the engines themselves know: vLLM 0.32.0, tool_parsers/__init__.py and reasoning/__init__.py; SGLang 0.5.23,
# srt/function_call/function_call_parser.py and srt/parser/reasoning_parser.py.
VLLM_TOOLS = """
apertus cohere_command3 cohere_command4 deepseek_v3 deepseek_v31 deepseek_v32 deepseek_v4 deepseek_v41 dots ernie45
functiongemma gemma4 gigachat3 glm45 glm47 granite granite-20b-fc granite4 hermes hf hunyuan_a13b hy_v3 hy_v4 inkling internlm
jamba k2_horizon kimi_k2 kimi_k3 lfm2 ling3 llama3_json llama4_json llama4_pythonic longcat mimo minicpm5 minimax_m2
minimax_m3 mistral muse_glimmer olmo3 openai phi4_mini_json plamo3 poolside_v1 pythonic qwen3_coder qwen3_json qwen3_xml
seed_oss step3 step3p5 xlam
"""
VLLM_THOUGHTS = """
cohere_command3 cohere_command4 deepseek_r1 deepseek_v3 deepseek_v4 deepseek_v41 ernie45 gemma4 glm45 glm47 granite
granite_thinking_parser hf holo2 hunyuan_a13b hy_v3 hy_v4 inkling k2_horizon kimi_k2 kimi_k3 ling3 mimo minicpmv minimax_m2
minimax_m2_append_think minimax_m3 mistral muse_glimmer nemotron_v3 olmo3 openai_gptoss plamo3 poolside_v1 qwen3 seed_oss
step3 step3p5
"""
SGLANG_TOOLS = """
apertus2509 beam cohere_command4 deepseekv3 deepseekv31 deepseekv32 deepseekv4 deepseekv41 dots gemma4 gigachat3 gigachat35
glm glm45 glm47 gpt-oss hermes hunyuan inkling interns1 iquest_q1 k2_horizon kimi_k2 kimi_k3 lfm2 ling3 llama3 mimo minicpm5
minimax-m2 minimax-m3 mistral muse nanbeige poolside_v1 pythonic qwen qwen25 qwen3_coder response_template spark25 step3
step3p5 trinity
"""
SGLANG_THOUGHTS = """
apertus2509 beam cohere_command4 deepseek-r1 deepseek-v3 deepseek-v4 deepseek-v41 dots gemma4 gigachat35 glm45 gpt-oss
granite_thinking_parser hunyuan inkling interns1 iquest_q1 k2_horizon kimi kimi_k2 kimi_k3 ling3 mimo minimax
minimax-append-think minimax-m3 mistral muse nanbeige nemotron_3 poolside_v1 qwen3 qwen3-thinking response_template step3
step3p5
"""
# What leaves towers as they are: Qwen's are called visual, the others' vision_tower, multi_modal_projector, audio_tower.
TOWERS_OUT = {'{"ignore":["*visual*"]}', '{"ignore":["*vision*","*projector*","*audio*"]}'}
TOOLS = {"vllm": set(VLLM_TOOLS.split()), "sglang": set(SGLANG_TOOLS.split())}
THOUGHTS = {"vllm": set(VLLM_THOUGHTS.split()), "sglang": set(SGLANG_THOUGHTS.split())}


# The hub's numbers as https://github.com/AlexsJones/llmfit 1.1.17 has collected them (its table of models), one row a profile.
PARAMETERS = [
    pytest.param("deepseek-r1-0528", 684_531_386_000, DRAFTS_APART),
    pytest.param("deepseek-r1-distill-qwen-32b", 32_763_876_352, STORED),
    pytest.param("deepseek-v3-0324", 684_531_386_000, DRAFTS_APART),
    pytest.param("deepseek-v3.1", 684_531_386_000, DRAFTS_APART),
    pytest.param("deepseek-v3.2", 685_355_329_792, DRAFTS_APART),
    pytest.param("deepseek-v4-flash", 284_000_000_000, NAME),
    pytest.param("deepseek-v4-pro", 1_600_000_000_000, NAME),
    pytest.param("devstral-2-123b", 125_025_988_608, ITS_BASE),
    pytest.param("devstral-small-2-24b", 24_011_361_840, WITH_TOWERS),
    pytest.param("devstral-small-2505", 23_572_403_200, STORED),
    pytest.param("devstral-small-2507", 23_572_403_200, STORED),
    pytest.param("ernie-4.5-21b-a3b", 21_948_655_808, ROUGHLY),
    pytest.param("ernie-4.5-21b-a3b-thinking", 21_825_437_888, STORED),
    pytest.param("gemma-3-12b", 12_187_325_040, WITH_TOWERS),
    pytest.param("gemma-3-1b", 999_885_952, STORED),
    pytest.param("gemma-3-27b", 27_432_406_640, WITH_TOWERS),
    pytest.param("gemma-3-4b", 4_300_079_472, WITH_TOWERS),
    pytest.param("gemma-4-12b", 11_959_730_224, WITH_TOWERS),
    pytest.param("gemma-4-26b-a4b", 25_805_936_206, WITH_TOWERS),
    pytest.param("gemma-4-31b", 31_273_088_876, WITH_TOWERS),
    pytest.param("gemma-4-e2b", 5_123_178_051, WITH_TOWERS),
    pytest.param("gemma-4-e4b", 7_996_156_490, WITH_TOWERS),
    pytest.param("glm-4-32b-0414", 32_566_081_536, STORED),
    pytest.param("glm-4.5", 358_337_791_296, DRAFTS_APART),
    pytest.param("glm-4.5-air", 110_468_824_832, DRAFTS_APART),
    pytest.param("glm-4.6", 356_785_898_816, WITH_DRAFTS),
    pytest.param("glm-4.7", 358_337_791_296, DRAFTS_APART),
    pytest.param("glm-4.7-flash", 31_221_488_576, DRAFTS_APART),
    pytest.param("glm-5", 753_864_139_008, WITH_DRAFTS),
    pytest.param("glm-5.1", 753_864_139_008, WITH_DRAFTS),
    pytest.param("glm-5.2", 753_329_940_480, WITH_DRAFTS),
    pytest.param("gpt-oss-120b", 116_829_156_672, STORED),
    pytest.param("gpt-oss-20b", 20_914_757_184, STORED),
    pytest.param("granite-4.0-h-micro", 3_191_396_096, STORED),
    pytest.param("granite-4.0-h-small", 32_207_337_984, STORED),
    pytest.param("granite-4.0-h-tiny", 6_939_037_248, STORED),
    pytest.param("granite-4.0-micro", 3_402_836_480, STORED),
    pytest.param("kimi-k2-instruct", 1_026_408_235_864, STORED),
    pytest.param("kimi-k2-instruct-0905", 1_026_470_735_448, STORED),
    pytest.param("kimi-k2-thinking", 1_026_408_240_256, STORED),
    pytest.param("kimi-k2.5", 1_026_879_376_368, STORED),
    pytest.param("kimi-k2.6", 1_026_879_376_368, STORED),
    pytest.param("kimi-k2.7-code", 1_026_879_376_368, STORED),
    pytest.param("kimi-linear-48b-a3b", 49_122_681_728, STORED),
    pytest.param("laguna-s-2.1", 117_561_977_600, STORED),
    pytest.param("laguna-xs-2.1", 33_442_617_088, STORED),
    pytest.param("laguna-xs.2", 33_442_617_088, STORED),
    pytest.param("llama-3.1-8b", 8_030_261_248, STORED),
    pytest.param("llama-3.3-70b", 70_553_706_496, STORED),
    pytest.param("llama-4-maverick", 401_583_781_376, STORED),
    pytest.param("llama-4-scout", 108_641_793_536, STORED),
    pytest.param("magistral-small-2509", 24_000_000_000, NAME),
    pytest.param("mimo-v2-flash", 309_785_318_400, ROUGHLY),
    pytest.param("minimax-m2", 228_689_764_864, STORED),
    pytest.param("minimax-m2.1", 228_689_764_864, STORED),
    pytest.param("minimax-m2.5", 228_703_644_928, STORED),
    pytest.param("minimax-m2.7", 228_689_764_864, STORED),
    pytest.param("ministral-3-14b", 13_945_031_680, WITH_TOWERS),
    pytest.param("ministral-3-3b", 3_849_090_048, WITH_TOWERS),
    pytest.param("ministral-3-8b", 8_918_026_240, WITH_TOWERS),
    pytest.param("mistral-medium-3.5-128b", 127_704_210_176, WITH_TOWERS),
    pytest.param("mistral-small-3.1-24b", 24_011_361_280, WITH_TOWERS),
    pytest.param("mistral-small-3.2-24b", 24_011_361_280, WITH_TOWERS),
    pytest.param("mistral-small-4-119b", 119_401_317_952, WITH_TOWERS),
    pytest.param("nemotron-3-nano-30b-a3b", 31_577_937_344, STORED),
    pytest.param("nemotron-3-super-120b-a12b", 123_611_012_096, WITH_DRAFTS),
    pytest.param("nemotron-3-ultra-550b-a55b", 560_524_578_816, WITH_DRAFTS),
    pytest.param("nemotron-3.5-lightning-30b-a3b", 31_577_937_344, STORED),
    pytest.param("nemotron-nano-9b-v2", 8_888_227_328, STORED),
    pytest.param("olmo-3-32b-think", 32_233_522_176, STORED),
    pytest.param("olmo-3.1-32b-instruct", 32_233_522_176, STORED),
    pytest.param("openhands-lm-32b", 32_763_876_352, STORED),
    pytest.param("openhands-lm-7b", 7_615_616_512, ITS_BASE),
    pytest.param("phi-4", 14_659_507_200, STORED),
    pytest.param("phi-4-mini", 3_836_021_760, STORED),
    pytest.param("phi-4-reasoning", 14_659_507_200, STORED),
    pytest.param("qwen2.5-coder-14b", 14_770_033_664, STORED),
    pytest.param("qwen2.5-coder-32b", 32_763_876_352, STORED),
    pytest.param("qwen2.5-coder-7b", 7_615_616_512, STORED),
    pytest.param("qwen3-0.6b", 751_632_384, HEAD_TWICE),
    pytest.param("qwen3-1.7b", 2_031_739_904, HEAD_TWICE),
    pytest.param("qwen3-14b", 14_768_307_200, STORED),
    pytest.param("qwen3-235b-a22b-instruct-2507", 235_093_634_560, STORED),
    pytest.param("qwen3-235b-a22b-thinking-2507", 235_093_634_560, STORED),
    pytest.param("qwen3-30b-a3b-instruct-2507", 30_532_122_624, STORED),
    pytest.param("qwen3-30b-a3b-thinking-2507", 30_532_122_624, STORED),
    pytest.param("qwen3-32b", 32_762_123_264, STORED),
    pytest.param("qwen3-4b", 4_022_468_096, STORED),
    pytest.param("qwen3-4b-instruct-2507", 4_022_468_096, STORED),
    pytest.param("qwen3-4b-thinking-2507", 4_022_468_096, STORED),
    pytest.param("qwen3-8b", 8_190_735_360, STORED),
    pytest.param("qwen3-coder-30b-a3b", 30_532_122_624, STORED),
    pytest.param("qwen3-coder-480b-a35b", 480_154_875_392, STORED),
    pytest.param("qwen3-coder-next", 79_674_391_296, STORED),
    pytest.param("qwen3-next-80b-a3b-instruct", 80_000_000_000, NAME),
    pytest.param("qwen3-next-80b-a3b-thinking", 80_000_000_000, NAME),
    pytest.param("qwen3.5-0.8b", 873_438_784, WITH_DRAFTS),
    pytest.param("qwen3.5-122b-a10b", 125_086_497_008, WITH_DRAFTS),
    pytest.param("qwen3.5-27b", 27_781_427_952, WITH_DRAFTS),
    pytest.param("qwen3.5-2b", 2_274_069_824, WITH_DRAFTS),
    pytest.param("qwen3.5-35b-a3b", 35_951_822_704, WITH_DRAFTS),
    pytest.param("qwen3.5-397b-a17b", 403_397_928_944, WITH_DRAFTS),
    pytest.param("qwen3.5-4b", 4_659_865_088, WITH_DRAFTS),
    pytest.param("qwen3.5-9b", 9_653_104_368, WITH_DRAFTS),
    pytest.param("qwen3.6-27b", 27_781_427_952, WITH_DRAFTS),
    pytest.param("qwen3.6-35b-a3b", 35_951_822_704, WITH_DRAFTS),
    pytest.param("qwen3.8-27b", 27_781_427_952, WITH_DRAFTS),
    pytest.param("qwq-32b", 32_763_876_352, STORED),
    pytest.param("seed-oss-36b", 36_151_104_512, STORED),
    pytest.param("smollm2-135m", 134_515_008, STORED),
    pytest.param("smollm3-3b", 3_075_098_624, STORED),
    pytest.param("step-3.5-flash", 197_764_857_152, ROUGHLY),
]


@pytest.mark.parametrize(("name", "published", "counts"), PARAMETERS)
def test_the_facts_make_as_many_parameters_as_are_published(name: str, published: int, counts: str) -> None:
    model = PROFILES[name].architecture
    beside = {
        WITH_DRAFTS: sum(part.elements for part in model.parts if part.draft and part.kind != "absorbed"),
        HEAD_TWICE: model.vocab * model.hidden,
    }
    beside[DRAFTS_APART] = beside[WITH_DRAFTS] + 2 * model.vocab * model.hidden
    assert model.parameters + beside.get(counts, 0) == pytest.approx(published, rel=TOLERANCE[counts])


def test_each_profile_is_compared_with_a_published_number() -> None:
    assert {row.values[0] for row in PARAMETERS} == set(PROFILES)


@pytest.mark.parametrize(
    ("name", "scales"),
    [
        # What a vendor's FP8 repository has more elements than its 16-bit one (the same source; an output head that only one
        # of them stores is left out): a scale for each block of 128 by 128.
        pytest.param("qwen3-0.6b", 26_880),
        pytest.param("qwen3-1.7b", 86_016),
        pytest.param("qwen3-14b", 806_400),
        pytest.param("qwen3-235b-a22b-instruct-2507", 14_269_952),
        pytest.param("qwen3-235b-a22b-thinking-2507", 14_269_952),
        pytest.param("qwen3-30b-a3b-instruct-2507", 1_824_768),
        pytest.param("qwen3-30b-a3b-thinking-2507", 1_824_768),
        pytest.param("qwen3-32b", 1_904_640),
        pytest.param("qwen3-4b-instruct-2507", 221_760),
        pytest.param("qwen3-4b-thinking-2507", 221_760),
        pytest.param("qwen3-4b", 221_760),
        pytest.param("qwen3-8b", 423_936),
        pytest.param("qwen3-coder-30b-a3b", 1_824_768),
        pytest.param("qwen3-coder-480b-a35b", 29_188_608),
        pytest.param("qwen3-coder-next", 4_821_504),
        pytest.param("qwen3.5-122b-a10b", 7_509_504),
        pytest.param("qwen3.5-27b", 1_507_520),
        pytest.param("qwen3.5-35b-a3b", 2_102_848),
        pytest.param("qwen3.5-397b-a17b", 24_457_984),
        pytest.param("qwen3.6-27b", 1_507_520),
        pytest.param("qwen3.6-35b-a3b", 2_102_848),
        pytest.param("step-3.5-flash", 11_612_160),
    ],
)
def test_a_repository_in_blocks_of_fp8_quantises_what_its_number_of_scales_says(name: str, scales: int) -> None:
    profile = PROFILES[name]
    (made,) = [each.quantisation for each in profile.variants if each.quantisation and each.quantisation.method == "fp8"]
    parts = [part for part in profile.architecture.parts if made.bits_of(part.kind, part.modules, part.layers) < made.rest]
    assert sum(part.elements for part in parts) == scales * 128 * 128


@pytest.mark.parametrize("name", PROFILES)
def test_mxfp4_is_made_only_of_what_its_blocks_of_32_divide(name: str) -> None:
    # vLLM 0.32 refuses to start otherwise (quantization/online/mxfp4.py), and quantises towers too unless told not to.
    table = tomllib.loads((catalogue.shipped() / f"{name}.toml").read_text())
    uneven = table["config"].get("vision_config", {}).get("intermediate_size", 0) % 32
    made = [set(args) for each in table["variant"] if "mxfp4" in (args := each.get("args", {}).get("vllm", []))]
    assert not uneven or all(args & TOWERS_OUT for args in made)


@pytest.mark.parametrize(
    ("name", "variant", "gigabytes"),
    [
        # https://github.com/NVIDIA-NeMo/Nemotron/pull/257: 331 GB, its draft head among them.
        pytest.param("nemotron-3-ultra-550b-a55b", "nvfp4", 331, id="experts, Mamba and attention each in other bits"),
        # https://github.com/vllm-project/recipes (moonshotai/Kimi-K2.5.yaml): about 595 GB on disk.
        pytest.param("kimi-k2.5", "int4", 595, id="routed experts in four bits"),
        # https://github.com/aarora79/agentic-coding-harness-benchmarks/pull/53: about 128 GB.
        pytest.param("devstral-2-123b", "fp8", 128, id="eight bits for all but the output head"),
    ],
)
def test_a_variant_takes_the_memory_that_its_files_do(name: str, variant: str, gigabytes: float) -> None:
    profile = PROFILES[name]
    (made,) = [each for each in profile.variants if each.name == variant]
    taken = memory.weights(profile.architecture, made.quantisation or made.precision, 1)
    assert taken / 1e9 == pytest.approx(gigabytes, rel=0.02)


@pytest.mark.parametrize(
    ("name", "machine"),
    [
        # By Marlin: vLLM in kernels/linear/nvfp4/marlin.py and fused_moe/oracle/nvfp4.py; SGLang in fp4_utils.py and (experts)
        # in modelopt_quant.py.
        pytest.param("gemma-4-26b-a4b", "RTX-4090", id="a card with 24 GB"),
        pytest.param("nemotron-3-nano-30b-a3b", "RTX-4090", id="a hybrid on one"),
        pytest.param("nemotron-3-super-120b-a12b", "H100-80GB", id="120 billion parameters on a Hopper"),
        pytest.param("nemotron-3-ultra-550b-a55b", "8xH100-80GB", id="550 billion on eight"),
        pytest.param("deepseek-v3.1", "8xH100-80GB", id="latents on eight"),
    ],
)
def test_nvfp4_is_planned_on_gpus_that_have_no_units_for_it(name: str, machine: str) -> None:
    # Both engines keep the weights in four bits and compute in sixteen.
    outcome = planner.plan(PROFILES[name], inventory_on(machine), ENGINES)
    assert isinstance(outcome, Plan)
    assert outcome.variant.precision == "nvfp4"


def test_deepseek_v4_has_its_experts_in_four_bits() -> None:
    made = PROFILES["deepseek-v4-flash"].variants[0].quantisation
    assert made is not None
    assert made.groups == (("experts", memory.BITS["mxfp4"]),)


@pytest.mark.parametrize("profile", [pytest.param(each, id=name) for name, each in PROFILES.items()])
def test_parsers_are_those_that_the_engines_have(profile: Profile) -> None:
    assert all(parser in TOOLS[engine] for engine, parser in profile.tool_parser.items())
    assert all(parser in THOUGHTS[engine] for engine, parser in profile.reasoning_parser.items())


@pytest.mark.parametrize("profile", [pytest.param(each, id=name) for name, each in PROFILES.items()])
def test_variants_stand_best_precision_first_and_under_names_of_their_own(profile: Profile) -> None:
    bits = [memory.BITS[variant.precision] for variant in profile.variants]
    assert bits == sorted(bits, reverse=True)
    assert len({variant.name for variant in profile.variants}) == len(bits)


@pytest.mark.parametrize("profile", [pytest.param(each, id=name) for name, each in PROFILES.items()])
def test_a_profile_names_its_source_and_only_plain_16_bit_models_run_on_cpus(profile: Profile) -> None:
    assert "https://" in profile.source
    assert "\n" not in profile.source
    assert "cpu" not in profile.runs_on or (profile.architecture.kind == "plain" and profile.architecture.parameters < 4.1e9)
