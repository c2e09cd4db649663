"""What a profile says of engines and of generations of GPUs, and what planning makes of it."""

import pytest

from launcher import catalogue, planner, profile
from launcher.engines import vllm
from launcher.engines.registry import ENGINES
from launcher.plan import DoesNotFit, Plan, Wish
from launcher.profile import CUDA, Generation
from launcher.release import Release, Releases
from tests.engines.test_vllm import SITE
from tests.machines_for_tests import machine

MODEL = (catalogue.shipped() / "openhands-lm-32b.toml").read_text()
SOME = """
[reasoning_parser]
vllm = "qwen3"

[[gpu]]
compute = "9.0"
below = "10.0"
args = { vllm = ["--async-scheduling"] }

[[gpu]]
compute = "10.0"
args = { vllm = ["--no-enable-prefix-caching"] }

[[variant]]
name = "bf16\""""


def planned(
    text: str, *, compute: tuple[int, int] = (9, 0), wish: Wish | None = None, releases: Releases | None = None
) -> Plan | DoesNotFit:
    model = profile.parse(text, name="mine", where="mine.toml")
    return planner.plan(model, machine(1, 96, compute=compute), ENGINES, wish, releases=releases or {})


@pytest.mark.parametrize(
    ("compute", "words"),
    [
        pytest.param((8, 9), set(), id="an older generation has none"),
        pytest.param((9, 0), {"--async-scheduling"}, id="its own generation"),
        pytest.param((12, 0), {"--no-enable-prefix-caching"}, id="all newer ones"),
    ],
)
def test_options_for_a_generation_are_given_to_it_alone(compute: tuple[int, int], words: set[str]) -> None:
    outcome = planned(MODEL.replace('[[variant]]\nname = "bf16"', SOME, 1), compute=compute)
    assert isinstance(outcome, Plan)
    argv = vllm.command(outcome, SITE).argv
    assert {"--async-scheduling", "--no-enable-prefix-caching"} & set(argv) == words
    assert argv[argv.index("--reasoning-parser") + 1] == "qwen3"


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        pytest.param("0.99.0", "needs vllm 0.99.0 or newer; this launcher serves with 0.32.0", id="a newer engine is needed"),
        pytest.param("0.9.2", None, id="nine is older than thirty-two"),
    ],
)
def test_a_model_that_needs_a_newer_engine_is_not_started_on_an_older_one(version: str, reason: str | None) -> None:
    text = MODEL.replace("[tool_parser]", f'[min_version]\nvllm = "{version}"\n\n[tool_parser]', 1)
    alone = planned(text, wish=Wish(engine="vllm"))
    assert ({each.reason for each in alone.rejections} if isinstance(alone, DoesNotFit) else {None}) == {reason}
    either = planned(text)
    assert isinstance(either, Plan)
    assert either.engine == ("sglang" if reason else "vllm")
    assert any(note == f"bf16 on vllm: {reason}" for note in either.notes) is (reason is not None)


@pytest.mark.parametrize(
    ("variant", "engine", "reason"),
    [
        pytest.param("fp8", "sglang", None, id="both engines are told how to make eight bits"),
        pytest.param("mxfp4", "vllm", None, id="one is told how to make four"),
        pytest.param("mxfp4", "sglang", "the profile has no option for sglang that quantises to mxfp4", id="the other is not"),
    ],
)
def test_a_precision_that_is_made_while_loading_needs_the_engines_own_option(
    variant: str, engine: str, reason: str | None
) -> None:
    outcome = planned(MODEL, wish=Wish(variant=variant, engine=engine))
    assert ([each.reason for each in outcome.rejections] if isinstance(outcome, DoesNotFit) else [None]) == [reason]


@pytest.mark.parametrize(
    ("chosen", "reason"),
    [
        pytest.param("0.33.0", None, id="a newer environment than the launcher's own"),
        pytest.param("0.33.0rc1.dev7+g12ab", None, id="one that was built from source"),
        pytest.param("0.31.0", "needs vllm 0.33.0 or newer; this launcher serves with 0.31.0", id="an older one"),
        pytest.param("unknown", "needs vllm 0.33.0 or newer; this launcher serves with unknown", id="one without a version"),
    ],
)
def test_the_engine_that_would_serve_is_the_chosen_one(chosen: str, reason: str | None) -> None:
    text = MODEL.replace("[tool_parser]", '[min_version]\nvllm = "0.33.0"\n\n[tool_parser]', 1)
    outcome = planned(text, wish=Wish(engine="vllm"), releases={("vllm", CUDA): Release(chosen)})
    reasons = (
        {each.reason for each in outcome.rejections if each.engine == "vllm"} if isinstance(outcome, DoesNotFit) else {None}
    )
    assert reasons == {reason}


def test_a_variant_is_left_out_where_newer_gpus_have_no_kernels_for_it() -> None:
    text = MODEL.replace('compute = "8.0"', 'compute = "8.0"\nbelow = "9.0"', 1)
    outcome = planned(text)
    assert isinstance(outcome, Plan)
    assert outcome.variant.name == "fp8"
    assert any("kernels below compute capability 9.0 only; GPU has 9.0" in note for note in outcome.notes)


def test_a_repository_that_is_quantised_is_counted_as_it_says() -> None:
    mine = '[variant.quantization_config]\nquant_method = "mxfp4"\n'
    head, _, _ = MODEL.partition("[[variant]]")
    made = 'args = { vllm = ["--quantization", "mxfp4"] }\n'
    variant = '[[variant]]\nname = "w4"\nprecision = "mxfp4"\nrepo = "org/w4"\n'
    whole, experts_alone = planned(head + variant + made), planned(head + variant + mine)
    assert isinstance(whole, Plan)
    assert isinstance(experts_alone, Plan)
    # In OpenAI's MXFP4 only experts have 4 bits, and a dense model has none: it stays in 16.
    assert experts_alone.memory.weights > 3 * whole.memory.weights


@pytest.mark.parametrize(
    ("compute", "held"),
    [
        pytest.param((8, 9), False, id="older"),
        pytest.param((9, 0), True, id="the first"),
        pytest.param((9, 9), True, id="within"),
        pytest.param((10, 0), False, id="the first beyond"),
    ],
)
def test_a_generation_ends_before_its_limit(compute: tuple[int, int], held: bool) -> None:  # noqa: FBT001 - a table's column
    assert Generation((9, 0), (10, 0)).holds(compute) is held
