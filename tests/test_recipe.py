import datetime as dt
import json
import re
from typing import Any

import pytest

from launcher import derive, profile
from launcher.derive import Facts
from launcher.profile import Profile
from launcher.profile_weights import HubWeights
from launcher.recipe import Recipe, merge, read
from tests.models_for_tests import coder
from tests.recipes_for_tests import DRAFTS, REPO, THOUGHTS, TOOLS, feature, model, recipe

URL = f"https://recipes.vllm.ai/{REPO}.json"
DAY = dt.date(2026, 11, 23)
FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}
NVFP4 = {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]}
# What the recipe's other repositories say of themselves.
OTHERS: dict[str, dict[str, Any] | str] = {
    "Org/Coder-7B-FP8": {"quantization_config": FP8},
    "nvidia/Coder-7B-NVFP4": {"quantization_config": NVFP4},
    "Org/Coder-14B": {"num_hidden_layers": 48},
    "Org/Gone": "the hub has no repository Org/Gone, or not for you",
}


def derived(repo: str, config: dict[str, Any]) -> dict[str, Any]:
    return derive.table(Facts(HubWeights(repo), coder(**config), {}, DAY))


def merged(content: dict[str, Any], **config: Any) -> Profile:
    """The profile that the repository and the recipe make, as read again from its file."""
    found = read(content, repo=REPO, url=URL)
    assert isinstance(found, Recipe), found
    told = ((repo, OTHERS[repo]) for repo in found.repositories)
    others = {repo: said if isinstance(said, str) else derived(repo, said) for repo, said in told}
    table = merge(derived(REPO, config), found, others)
    return profile.parse(derive.toml(table, schema="schema.json"), name="coder-7b", where="coder-7b.toml")  # type: ignore[arg-type]


def test_a_profile_says_where_it_is_from() -> None:
    made = merged(recipe())
    assert (made.title, made.about) == ("Coder 7B", "A coder.")
    assert made.source == f"{URL}; config.json of {REPO}"
    assert made.checked == DAY
    assert made.architecture.layers == 28


PARSERS = {
    "tools and thoughts": ({"features": {"tool_calling": TOOLS, "reasoning": THOUGHTS}}, "qwen3_coder", "qwen3"),
    "thoughts in the basic options": ({"model": model(base_args=["--reasoning-parser=step3p5"])}, "hermes", "step3p5"),
    "optional tools, which agents need": (
        {"features": {"tool_calling": TOOLS}, "opt_in_features": ["tool_calling"]},
        "qwen3_coder",
        None,
    ),
    "optional thoughts": ({"features": {"reasoning": THOUGHTS}, "opt_in_features": ["reasoning"]}, "hermes", None),
    "a parser out of a file of code": (
        {"features": {"tool_calling": feature("--tool-call-parser", "mine", "--tool-call-parser-plugin", "mine.py")}},
        "hermes",
        None,
    ),
    "a parser that is no name": ({"features": {"tool_calling": feature("--tool-call-parser", "a b; c")}}, "hermes", None),
    "no features at all": ({"features": None}, "hermes", None),
    "features of another shape": ({"features": [TOOLS]}, "hermes", None),
}


@pytest.mark.parametrize(("more", "tools", "thoughts"), PARSERS.values(), ids=PARSERS.keys())
def test_the_parsers_are_the_recipes_where_it_names_some(more: dict[str, Any], tools: str, thoughts: str | None) -> None:
    made = merged(recipe(**more))
    assert (made.tool_parser["vllm"], made.reasoning_parser.get("vllm")) == (tools, thoughts)
    # Its chat template tells what SGLang calls the parser: a recipe is about vLLM alone.
    assert made.tool_parser["sglang"] == "hermes"


VERSIONS = {
    "a release": (recipe(model=model(min_vllm_version="0.17.0")), {"vllm": "0.17.0"}),
    "a release with words around": (recipe(model=model(min_vllm_version=">=0.17.0")), {"vllm": "0.17.0"}),
    "a nightly build": (recipe(model=model(min_vllm_version="nightly", nightly_required=True)), {}),
    "a variant's, if it is newer": (
        recipe(variants={"default": {"precision": "bf16"}, "fp8": {"precision": "fp8", "min_vllm_version": "0.25.0"}}),
        {"vllm": "0.25.0"},
    ),
    "not that of a variant that is not served": (
        recipe(variants={"default": {}, "x": {"precision": "fp8", "model_id": "Org/Gone", "min_vllm_version": "1.0"}}),
        {"vllm": "0.11.0"},
    ),
    "nothing": (recipe(model={}), {}),
}  # fmt: skip


@pytest.mark.parametrize(("content", "versions"), VERSIONS.values(), ids=VERSIONS.keys())
def test_the_first_version_that_serves_it(content: dict[str, Any], versions: dict[str, str]) -> None:
    assert merged(content).min_version == versions


def test_options_for_all_gpus_and_for_generations() -> None:
    blocks = {
        "hopper": {"extra_args": ["--attention-backend", "FLASH_ATTN", "--max-num-seqs", "64"]},
        "blackwell": {"extra_args": ["--moe-backend=deep_gemm"], "extra_env": {"VLLM_USE_X": "1"}},
        "amd": {"extra_args": ["--attention-backend", "ROCM_AITER_FA"], "extra_env": {"VLLM_ROCM_USE_AITER": "1"}},
        "h200": {"extra_args": ["--enforce-eager"]},
    }
    made = merged(recipe(model=model(base_args=["--trust-remote-code", "--async-scheduling"]), hardware_overrides=blocks))
    assert made.args == {"vllm": ("--async-scheduling",)}
    seen = [(generation.compute, generation.below, args["vllm"]) for generation, args in made.gpu_args]
    assert seen == [
        ((9, 0), (10, 0), ("--attention-backend", "FLASH_ATTN")),
        ((10, 0), None, ("--moe-backend", "deep_gemm")),
    ]
    assert made.notes == (
        "vLLM's recipe also says, and this profile does not: VLLM_USE_X=1 on blackwell; what is for h200 alone",
    )


def test_options_for_all_of_nvidias() -> None:
    made = merged(recipe(hardware_overrides={"nvidia": {"extra_args": ["--enforce-eager"]}}))
    ((generation, args),) = made.gpu_args
    assert (generation.holds((7, 5)), generation.holds((12, 1)), args["vllm"]) == (True, True, ("--enforce-eager",))


SPECULATION = {
    "its own heads": ({"spec_decoding": DRAFTS}, [], 2),
    "its own heads, as a choice": ({"spec_decoding": DRAFTS}, ["spec_decoding"], None),
    "several ways to choose from": ({"spec_decoding": {"default_mode": "mtp", "modes": {"mtp": DRAFTS}}}, [], None),
}


@pytest.mark.parametrize(("features", "optional", "tokens"), SPECULATION.values(), ids=SPECULATION.keys())
def test_speculation_is_taken_where_it_is_on_by_default(
    features: dict[str, Any], optional: list[str], tokens: int | None
) -> None:
    found = merged(recipe(features=features, opt_in_features=optional)).speculative
    assert (found and found.tokens) == tokens


FULL = ("bf16", "bf16", REPO)
VARIANTS: dict[str, tuple[dict[str, Any], list[tuple[str, str, str]]]] = {
    "only its own": ({"default": {"precision": "bf16"}}, [FULL, ("fp8", "fp8", REPO), ("mxfp4", "mxfp4", REPO)]),
    "other repositories, best precision first": (
        {
            "nvfp4": {"precision": "nvfp4", "model_id": "nvidia/Coder-7B-NVFP4"},
            "default": {"precision": "bf16"},
            "fp8": {"precision": "fp8", "model_id": "Org/Coder-7B-FP8"},
        },
        [FULL, ("fp8", "fp8", "Org/Coder-7B-FP8"), ("nvfp4", "nvfp4", "nvidia/Coder-7B-NVFP4"), ("mxfp4", "mxfp4", REPO)],
    ),
    "one that the engine quantises": (
        {"default": {"precision": "bf16"}, "fp8": {"precision": "fp8", "extra_args": ["--quantization", "fp8"]}},
        [FULL, ("fp8", "fp8", REPO), ("mxfp4", "mxfp4", REPO)],
    ),
    "a default that is another repository": (
        {"default": {"precision": "fp8", "model_id": "Org/Coder-7B-FP8"}},
        [FULL, ("fp8", "fp8", "Org/Coder-7B-FP8"), ("mxfp4", "mxfp4", REPO)],
    ),
    "another maker's": (
        {
            "default": {"precision": "bf16"},
            "amd_fp8": {"precision": "fp8", "model_id": "amd/Coder-7B-FP8-KV"},
            "mi": {"precision": "fp8", "model_id": "x/y", "supported_hardware": ["mi355x", "mi300x"]},
            "tpu": {"precision": "int8", "model_id": "x/z", "precision_hardware": {"brand": "Google"}},
        },
        [FULL, ("fp8", "fp8", REPO), ("mxfp4", "mxfp4", REPO)],
    ),
    "none": ({}, [FULL, ("fp8", "fp8", REPO), ("mxfp4", "mxfp4", REPO)]),
    "a precision that nobody else has": (
        {"default": {"precision": "bf16"}, "odd": {"precision": "int2/4/8"}},
        [FULL, ("fp8", "fp8", REPO), ("mxfp4", "mxfp4", REPO)],
    ),
    "a name in capitals": (
        {"default": {"precision": "bf16"}, "FP8 (new)": {"precision": "fp8", "model_id": "Org/Coder-7B-FP8"}},
        [FULL, ("fp8-new-", "fp8", "Org/Coder-7B-FP8"), ("fp8", "fp8", REPO), ("mxfp4", "mxfp4", REPO)],
    ),
}


@pytest.mark.parametrize(("variants", "made"), VARIANTS.values(), ids=VARIANTS.keys())
def test_the_variants_are_those_that_can_be_served(variants: dict[str, Any], made: list[tuple[str, str, str]]) -> None:
    seen = []
    for each in merged(recipe(variants=variants)).variants:
        assert isinstance(each.weights, HubWeights)
        seen.append((each.name, each.precision, each.weights.repo))
    assert seen == made


def test_a_variants_options_stand_behind_what_its_weights_need() -> None:
    fp8 = {"precision": "fp8", "extra_args": ["--moe-backend", "marlin", "--kv-cache-dtype", "fp8"]}
    made = merged(recipe(variants={"default": {"precision": "bf16"}, "fp8": fp8}))
    assert made.variants[1].args["vllm"] == ("--quantization", "fp8_per_tensor", "--moe-backend", "marlin")
    assert made.variants[1].args["sglang"] == ("--quantization", "fp8")
    assert made.notes == ("vLLM's recipe also says, and this profile does not: --kv-cache-dtype fp8 (fp8)",)


def test_a_quantised_repository_says_itself_how() -> None:
    made = merged(recipe(variants={"default": {"precision": "fp8"}}), quantization_config=FP8)
    (only,) = made.variants
    assert (only.name, only.precision) == ("fp8", "fp8")
    assert only.quantisation is not None


LEFT_OUT: dict[str, tuple[dict[str, Any], str]] = {
    "fields that nobody looked at": (
        recipe(surprise=1, model=model(new=2), variants={"default": {"precision": "bf16", "colour": "red"}}),
        "unknown field surprise; unknown field model.new; unknown field variants.default.colour",
    ),
    "the environment": (recipe(model=model(base_env={"VLLM_USE_DEEP_GEMM": "0"})), "VLLM_USE_DEEP_GEMM=0"),
    "what is installed beside it": (
        recipe(
            model=model(
                install={
                    "extras": [
                        {"command": "uv pip install 'mistral_common>=1.11'", "note": "tokens"},
                        {"command": "uv pip install nice", "optional": True},
                        {"command": "uv pip install aiter", "brand": "AMD"},
                    ]
                }
            )
        ),
        "installed beside it: uv pip install 'mistral_common>=1.11'",
    ),
    "a nightly build": (recipe(model=model(nightly_required=True)), "it needs a newer vLLM than any release"),
    "a repository that is gone": (
        recipe(variants={"default": {"precision": "bf16"}, "x": {"precision": "fp8", "model_id": "Org/Gone"}}),
        "variant x (the hub has no repository Org/Gone, or not for you)",
    ),
    "a repository with another model": (
        recipe(variants={"default": {"precision": "bf16"}, "x": {"precision": "bf16", "model_id": "Org/Coder-14B"}}),
        "variant x (Org/Coder-14B is another model)",
    ),
    "a precision that its weights are not in": (
        recipe(variants={"default": {"precision": "bf16"}, "x": {"precision": "int2"}}),
        f"variant x ({REPO} is not in int2)",
    ),
}


@pytest.mark.parametrize(("content", "told"), LEFT_OUT.values(), ids=LEFT_OUT.keys())
def test_what_a_profile_cannot_say_is_told(content: dict[str, Any], told: str) -> None:
    assert merged(content).notes == (f"vLLM's recipe also says, and this profile does not: {told}",)


def test_a_recipe_that_knows_a_tool_parser_takes_the_note_that_there_is_none() -> None:
    facts = {**coder(), "tokenizer_config.json": json.dumps({"chat_template": "{{ messages }}"})}
    own = derive.table(Facts(HubWeights(REPO), facts, {}, DAY))
    assert "no tool parser is known" in own["notes"][0]
    found = read(recipe(features={"tool_calling": TOOLS}), repo=REPO, url=URL)
    assert isinstance(found, Recipe)
    assert "notes" not in merge(own, found, {})


NONE = {
    "no object": ([], "it is not a recipe"),
    "another model's": (recipe("Org/Other"), "it is for another model: Org/Other"),
    "pictures": (recipe(meta={"tasks": ["omni"]}), r"it is not for a model that writes text \(omni\)"),
    "nothing": ({}, "it is for another model: None"),
}


@pytest.mark.parametrize(("content", "reason"), NONE.values(), ids=NONE.keys())
def test_what_is_no_recipe_for_this_model(content: Any, reason: str) -> None:
    found = read(content, repo=REPO, url=URL)
    assert isinstance(found, str)
    assert re.fullmatch(reason, found)


def test_letters_case_does_not_make_another_model() -> None:
    assert isinstance(read(recipe("org/coder-7b"), repo=REPO, url=URL), Recipe)


@pytest.mark.parametrize(
    "wrong", [None, 3, "text", [1, "two"], {"a": {"b": None}}], ids=["null", "a number", "a text", "a list", "an object"]
)
@pytest.mark.parametrize("part", ["meta", "model", "features", "opt_in_features", "variants", "hardware_overrides"])
def test_parts_of_another_shape_are_as_good_as_not_there(part: str, wrong: Any) -> None:
    assert merged(recipe(**{part: wrong})).variants[0].name == "bf16"
