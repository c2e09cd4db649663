import pytest

from launcher import engine_args
from launcher.engines.registry import ENGINES


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        pytest.param("--enforce-eager", ("--enforce-eager",), id="a switch"),
        pytest.param("--seed=7", ("--seed=7",), id="a value behind an equals sign"),
        pytest.param("--seed 7", ("--seed", "7"), id="a value behind a space"),
        pytest.param("--cudagraph-capture-sizes 1 2 4", ("--cudagraph-capture-sizes", "1", "2", "4"), id="several values"),
        pytest.param('--kernel-config={"a": "b c"}', ('--kernel-config={"a": "b c"}',), id="spaces in one value"),
    ],
)
def test_what_was_typed_becomes_words_of_the_command(typed: str, words: tuple[str, ...]) -> None:
    assert engine_args.words([typed, "--last"]) == (*words, "--last")


DECIDED, SECRET, NO_OPTION = "is decided by the launcher", "looks like a secret", "is no option"


@pytest.mark.parametrize(
    ("engine", "text", "fault"),
    [
        pytest.param("vllm", "--enforce-eager", None, id="a switch"),
        pytest.param("vllm", "--attention-backend=FLASHINFER", None, id="a backend"),
        pytest.param("vllm", "--tokenizer-mode auto", None, id="a tokenizer is no token"),
        pytest.param("vllm", "--max-model-len 4096", DECIDED, id="the context"),
        pytest.param("vllm", "--max_model_len=4096", DECIDED, id="with another spelling"),
        pytest.param("vllm", "--max-model", DECIDED, id="or shortened"),
        pytest.param("vllm", "--port=1", DECIDED, id="the port"),
        pytest.param("vllm", "--host 0.0.0.0", DECIDED, id="the address"),
        pytest.param("vllm", "--tensor-parallel-size=2", DECIDED, id="the layout"),
        pytest.param("vllm", "--speculative-config.method=mtp", DECIDED, id="a part of a JSON value"),
        pytest.param("vllm", "--no-enable-sleep-mode", DECIDED, id="a switch turned off"),
        pytest.param("vllm", "--config x.yaml", DECIDED, id="a file that may hold all of these"),
        pytest.param("vllm", "--api-key=sk-1", SECRET, id="the key"),
        pytest.param("vllm", "--hf-token=hf_1", SECRET, id="the hub's token"),
        pytest.param("sglang", "--admin_api_key sk-1", SECRET, id="a key that is not ours"),
        pytest.param("sglang", "--context-length=4096", DECIDED, id="the other engine's word for the context"),
        pytest.param("sglang", "--tp 2", DECIDED, id="the short one for a group"),
        pytest.param("sglang", "--max-model-len=4096", None, id="what the other engine decides"),
        pytest.param("sglang", "--schedule-policy=lpm", None, id="a policy"),
        pytest.param("vllm", "-tp 2", NO_OPTION, id="one letter or two"),
        pytest.param("vllm", "model", NO_OPTION, id="a word"),
        pytest.param("vllm", "", NO_OPTION, id="nothing"),
        pytest.param("vllm", "--seed,7", NO_OPTION, id="a strange sign"),
    ],
)
def test_what_the_launcher_decides_and_what_is_secret_may_not_be_given(engine: str, text: str, fault: str | None) -> None:
    found = engine_args.fault(text, ENGINES[engine].DECIDED)
    assert (found is None) == (fault is None)
    assert (found or "").startswith(fault or "")
