import datetime as dt
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher import memory, planner
from launcher.derive import Facts, derive, table
from launcher.engines.registry import ENGINES
from launcher.errors import LauncherError
from launcher.plan import Plan, Wish
from launcher.profile import Profile
from launcher.profile_weights import HubWeights, LocalWeights
from tests.machines_for_tests import machine
from tests.models_for_tests import CODER_BYTES, CODER_POSITIONS, coder, index

DAY = dt.date(2026, 11, 22)


def facts(texts: Mapping[str, str] | None = None, sizes: Mapping[str, int] | None = None, repo: str = "org/Coder-7B") -> Facts:
    return Facts(HubWeights(repo), coder() if texts is None else texts, sizes or {}, DAY)


def test_a_repository_becomes_a_profile() -> None:
    profile = derive(facts())
    assert (profile.name, profile.origin, profile.title, profile.checked) == ("coder-7b", "org/Coder-7B", "Coder-7B", DAY)
    assert profile.runs_on == {"cpu", "cuda"}
    assert profile.tool_parser == {"vllm": "hermes", "sglang": "hermes"}
    assert profile.context_max == 32_768
    assert [(each.name, each.precision, each.size) for each in profile.variants] == [
        ("bf16", "bf16", CODER_BYTES),
        ("fp8", "fp8", CODER_BYTES),
        ("mxfp4", "mxfp4", CODER_BYTES),
    ]
    assert {each.weights for each in profile.variants} == {HubWeights("org/Coder-7B")}
    assert profile.variants[1].args == {
        "vllm": ("--quantization", "fp8_per_tensor"),
        "sglang": ("--quantization", "fp8"),
    }


def test_the_exact_bytes_are_what_each_rank_is_planned_with() -> None:
    for tensor in (1, 2):
        plan = planner.plan(derive(facts()), machine(tensor, 23.58), ENGINES, Wish(variant="bf16", context=32_768))
        assert isinstance(plan, Plan)
    # The parameters that the config.json tells, 16 bits each, are these bytes: 7,615,616,512 parameters on the model's card.
    assert planner.plan(derive(facts()), machine(1, 79.18), ENGINES).memory.weights == CODER_BYTES + CODER_POSITIONS  # type: ignore[union-attr]
    half = planner.plan(derive(facts(sizes={"model-1.safetensors": 5, "model-2.safetensors": 5})), machine(1, 79.18), ENGINES)
    assert isinstance(half, Plan)
    assert half.memory.weights == 10 + CODER_POSITIONS


@pytest.mark.parametrize(
    ("texts", "sizes", "expected"),
    [
        pytest.param({}, {}, None, id="nothing is known: the model's facts must do"),
        pytest.param({}, {"model.safetensors": 7}, 7, id="one file"),
        pytest.param({"model.safetensors.index.json": index(99)}, {}, 99, id="the index alone"),
        pytest.param(
            {"model.safetensors.index.json": index(99)},
            {"model-1.safetensors": 3, "model-2.safetensors": 4, "other.safetensors": 5},
            7,
            id="the files that the index names count, not its sum",
        ),
        pytest.param(
            {"model.safetensors.index.json": index(99)}, {"model-1.safetensors": 3}, 99, id="half of the files tell nothing"
        ),
        pytest.param(
            {"model.safetensors.index.json": index(None)},
            {"model-1.safetensors": 3, "model-2.safetensors": 4},
            7,
            id="an index without sizes is no fault where the files are",
        ),
    ],
)
def test_the_size_of_the_weights_is_the_best_that_is_known(
    texts: dict[str, str], sizes: dict[str, int], expected: int | None
) -> None:
    only = {"config.json": coder()["config.json"]}
    assert derive(facts({**only, **texts}, sizes)).variants[0].size == expected


AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128}
W4 = {"weights": {"num_bits": 4, "type": "int"}}
W8 = {"weights": {"num_bits": 8, "type": "float"}}


@pytest.mark.parametrize(
    ("config", "more", "variants"),
    [
        pytest.param({}, {}, [("bf16", "bf16", (8, 0)), ("fp8", "fp8", (8, 0)), ("mxfp4", "mxfp4", (8, 0))], id="bfloat16"),
        pytest.param(
            {"torch_dtype": "float16"},
            {},
            [("fp16", "fp16", (7, 5)), ("fp8", "fp8", (8, 0)), ("mxfp4", "mxfp4", (8, 0))],
            id="float16 runs on older GPUs too",
        ),
        pytest.param(
            {"torch_dtype": None, "dtype": "float16"},
            {},
            [("fp16", "fp16", (7, 5)), ("fp8", "fp8", (8, 0)), ("mxfp4", "mxfp4", (8, 0))],
            id="as transformers 5 spells it",
        ),
        pytest.param({"quantization_config": AWQ}, {}, [("awq", "mxfp4", (7, 5))], id="AWQ"),
        pytest.param({"quantization_config": {"quant_method": "gptq", "bits": 8}}, {}, [("gptq", "fp8", (7, 5))], id="GPTQ"),
        pytest.param({"quantization_config": {"quant_method": "fp8"}}, {}, [("fp8", "fp8", (7, 5))], id="FP8"),
        pytest.param({"quantization_config": {"quant_method": "mxfp4"}}, {}, [("mxfp4", "mxfp4", (8, 0))], id="MXFP4"),
        pytest.param(
            {"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {"group_0": W4}}},
            {},
            [("compressed-tensors", "mxfp4", (7, 5))],
            id="compressed-tensors, 4 bit",
        ),
        pytest.param(
            {"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {"group_0": W4, "group_1": W8}}},
            {},
            [("compressed-tensors", "fp8", (7, 5))],
            id="compressed-tensors, the widest layers decide",
        ),
        pytest.param(
            {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
            {},
            [("bitsandbytes", "mxfp4", (7, 5))],
            id="bitsandbytes",
        ),
        pytest.param(
            {},
            {"hf_quant_config.json": json.dumps({"quantization": {"quant_algo": "NVFP4"}})},
            [("modelopt", "mxfp4", (8, 0))],
            id="ModelOpt, in a file of its own",
        ),
    ],
)
def test_the_precision_is_the_checkpoints_own(
    config: dict[str, Any], more: dict[str, str], variants: list[tuple[str, str, tuple[int, int]]]
) -> None:
    profile = derive(facts({**coder(**config), **more}))
    assert [(each.name, each.precision, each.on.compute) for each in profile.variants] == variants
    assert ("cpu" in profile.runs_on) == (len(variants) == 3)


def test_32_bits_are_halved_on_loading() -> None:
    full = derive(facts(coder(torch_dtype="float32"))).variants[0]
    assert (full.precision, full.size, full.args["vllm"]) == ("bf16", CODER_BYTES, ("--dtype", "bfloat16"))
    architecture = derive(facts(coder(torch_dtype="float32"))).architecture
    assert memory.weights(architecture, full.precision, 1, files=full.size) == pytest.approx(CODER_BYTES / 2 + CODER_POSITIONS)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        pytest.param({}, "org/Coder-7B has no config.json", id="no config.json"),
        pytest.param({"config.json": '{"model_type": "qw'}, "config.json of org/Coder-7B is not valid JSON", id="half written"),
        pytest.param({"config.json": "[]"}, "config.json of org/Coder-7B is not a JSON object", id="a list"),
        pytest.param(coder(vocab_size="many"), "no whole number for vocab_size", id="a fact that is no number"),
        pytest.param(coder(auto_map={"AutoConfig": "x.Y"}), r"needs code of its own \(auto_map", id="code of its own"),
        pytest.param(
            coder(architectures=["Qwen2ForSequenceClassification"]), "does not write text: it is a Qwen2For", id="a classifier"
        ),
        pytest.param(
            coder(quantization_config={"quant_method": "exotic"}), r"cannot be planned \(exotic\)", id="an unknown quantisation"
        ),
        pytest.param(
            coder(quantization_config={"quant_method": "gptq", "bits": 3}), r"cannot be planned \(gptq\)", id="an odd width"
        ),
        pytest.param(
            {**coder(), "model.safetensors.index.json": index(None)}, "index.json of org/Coder-7B tells no sizes", id="no sizes"
        ),
        pytest.param({**coder(), "model.safetensors.index.json": "{"}, "index.json of .* is not valid JSON", id="a cut index"),
        pytest.param({**coder(), "tokenizer_config.json": "{"}, "tokenizer_config.json of .* is not valid JSON", id="a cut"),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_line(texts: dict[str, str], message: str) -> None:
    with pytest.raises(LauncherError, match=message) as fault:
        derive(facts(texts))
    assert "\n" not in fault.value.message
    assert fault.value.hint


def test_a_file_made_of_it_does_not_say_that_there_is_none() -> None:
    assert "notes" not in table(facts(coder()))


@pytest.mark.parametrize(
    ("texts", "note"),
    [
        pytest.param(coder(), "no profile describes this model", id="always"),
        pytest.param({"config.json": coder()["config.json"]}, "it has no chat template", id="a base model"),
        pytest.param(
            {**coder(), "chat_template.jinja": "{{ messages }}"}, "no tool parser is known", id="a template without tools"
        ),
    ],
)
def test_what_a_person_should_know_is_noted_in_each_plan(texts: dict[str, str], note: str) -> None:
    plan = planner.plan(derive(facts(texts)), machine(1, 79.18), ENGINES)
    assert isinstance(plan, Plan)
    assert any(note in each for each in plan.notes)


@pytest.mark.parametrize(
    "texts",
    [
        pytest.param({"tokenizer_config.json": json.dumps({"chat_template": "<tool_call>"})}, id="in the tokenizer's settings"),
        pytest.param({"chat_template.jinja": "<tool_call>"}, id="in a file of its own"),
        pytest.param({"chat_template.json": json.dumps({"chat_template": "<tool_call>"})}, id="in a JSON of its own"),
        pytest.param(
            {"tokenizer_config.json": json.dumps({"chat_template": [{"name": "tool_use", "template": "<tool_call>"}]})},
            id="one of several",
        ),
    ],
)
def test_the_chat_template_is_found_wherever_it_is(texts: dict[str, str]) -> None:
    assert derive(facts({"config.json": coder()["config.json"], **texts})).tool_parser == {"vllm": "hermes", "sglang": "hermes"}


@pytest.mark.parametrize(
    ("where", "name"),
    [
        pytest.param(HubWeights("Qwen/Qwen2.5-Coder-7B-Instruct"), "qwen2.5-coder-7b-instruct", id="a repository"),
        pytest.param(LocalWeights(Path("/models/My Model (new)")), "my-model-new", id="a folder with other letters"),
        pytest.param(LocalWeights(Path("/models/.hidden")), "hidden", id="a hidden folder"),
        pytest.param(LocalWeights(Path("/")), "model", id="no name at all"),
        pytest.param(LocalWeights(Path("/模型")), "model", id="no letter that a name may have"),
        pytest.param(HubWeights("org/" + "x" * 90), "x" * 64, id="a long name"),
    ],
)
def test_the_served_name_is_the_last_part_in_small_letters(where: HubWeights | LocalWeights, name: str) -> None:
    assert derive(Facts(where, coder(), {}, DAY)).name == name


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.sampled_from(["", "awq", "gptq", "fp8", "4", "bfloat16", "<tool_call>"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["bits", "weights", "quant_method", "x"]), inner)
    ),
    max_leaves=6,
)
# Keys that derive reads beside those of the architecture, in config.json and in the other files.
READ = ("torch_dtype", "dtype", "quantization_config", "text_config", "auto_map", "architectures")
FILES = ("model.safetensors.index.json", "tokenizer_config.json", "hf_quant_config.json", "chat_template.json")
INNER = ("weight_map", "metadata", "chat_template", "quantization")


@given(
    st.dictionaries(st.sampled_from(READ), anything), st.dictionaries(st.sampled_from(FILES), st.sampled_from(INNER)), anything
)
def test_whatever_stands_in_the_files_a_model_is_derived_or_refused(
    config: dict[str, Any], files: dict[str, str], value: Any
) -> None:
    texts = {name: json.dumps({key: value}) for name, key in files.items()}
    outcome = derived_or_refused(facts({**coder(**config), **texts}))
    if isinstance(outcome, LauncherError):
        assert outcome.hint
        assert "\n" not in outcome.message
    else:
        assert all(each.size is None or each.size > 0 for each in outcome.variants)


def derived_or_refused(known: Facts) -> Profile | LauncherError:
    try:
        return derive(known)
    except LauncherError as fault:
        return fault
