import pytest
from prometheus_client.parser import text_string_to_metric_families

from launcher.gateway.relay import merged

VLLM = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 2.0
# HELP vllm:prompt_tokens_total Number of prefill tokens processed.
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0",model_name="m"} 41.0
# HELP vllm:ttft Histogram.
# TYPE vllm:ttft histogram
vllm:ttft_bucket{le="+Inf"} 3.0
vllm:ttft_count 3.0
vllm:ttft_sum 0.5
"""


def test_two_engines_are_one_text_that_prometheus_reads() -> None:
    text = merged([("a", "", VLLM), ('b "2"', "", VLLM)])
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert sorted(families) == ["vllm:num_requests_running", "vllm:prompt_tokens", "vllm:ttft"]
    for family in families.values():
        assert {sample.labels["model"] for sample in family.samples} == {"a", 'b "2"'}
    assert text.count("# TYPE vllm:ttft ") == 1


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param("up 1", 'up{model="a"} 1', id="no labels"),
        pytest.param('up{x="1"} 1', 'up{model="a",x="1"} 1', id="a label"),
        pytest.param("up{} 1", 'up{model="a"} 1', id="empty labels"),
        pytest.param('up{model="own",x="1"} 1', 'up{model="a",engine_model="own",x="1"} 1', id="the engine's own word for it"),
    ],
)
def test_a_sample_gets_its_model(line: str, expected: str) -> None:
    assert merged([("a", "", line)]) == f"{expected}\n"


def test_what_is_no_metric_is_left_out() -> None:
    assert merged([("a", "", "<html>\n\n# EOF\n")]) == ""


def test_replicas_of_a_model_are_told_apart() -> None:
    text = merged([("a", "10.0.0.1:12000", VLLM), ("a", "10.0.0.2:12000", VLLM)])
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    assert {sample.labels["replica"] for sample in samples} == {"10.0.0.1:12000", "10.0.0.2:12000"}
    assert len({(sample.name, *sorted(sample.labels.items())) for sample in samples}) == len(samples)
