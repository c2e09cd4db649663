"""What the gateway answers itself, through its own door."""

import asyncio
import re
import ssl
import subprocess
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from openai import OpenAI
from prometheus_client.parser import text_string_to_metric_families

from launcher.errors import LauncherError
from launcher.gateway import tls
from launcher.gateway.access_log import Line, write
from launcher.gateway.metrics import Reading
from launcher.gateway.table import Route
from tests.certificates import certificate
from tests.gateway.world import KEY, QUICK, place, request, run, until

ROOT = Path(__file__).parent.parent.parent
GPU = Reading(0, "GPU-1", "NVIDIA H100", used=3, total=80, utilisation=97.0, temperature=61.0, power=None)


def test_the_models_there_are_with_their_state_and_context() -> None:
    async def main() -> None:
        async with place() as here:
            here.publish(here.ready(), Route("large", "failed", detail="no memory"), aliases={"gpt": "tiny"})
            rows = (await here.get("/v1/models")).json["data"]
            assert [(row["id"], row["root"], row["state"], row["max_model_len"]) for row in rows] == [
                ("tiny", "tiny", "ready", 8192),
                ("large", "large", "failed", None),
                ("gpt", "tiny", "ready", 8192),
            ]
            assert rows[1]["detail"] == "no memory"
            bare = await here.get("/v1/models", method="HEAD")
            assert (bare.status, int(bare.headers["content-length"]) > 100) == (200, True)

    run(main())


def test_clients_of_a_litellm_proxy_learn_the_window_that_agents_are_told() -> None:
    async def main() -> None:
        async with place() as here:
            here.publish(here.ready(context=65_536, native_tool_calling=True), Route("large", "stopped"))
            known, unknown = (await here.get("/v1/model/info")).json["data"]
            told = known["model_info"]
            assert known["model_name"] == "tiny"
            # DESIGN.md: max_output_tokens = min(8192, CTX // 4), max_input_tokens = floor(0.9 * (CTX - max_output_tokens)).
            assert (told["max_input_tokens"], told["max_output_tokens"]) == (51_609, 8192)
            assert told["supports_function_calling"] is True
            assert "max_input_tokens" not in unknown["model_info"]

    run(main())


def test_openai_s_own_client_is_served() -> None:
    async def main() -> None:
        async with place() as here:

            def ask() -> list[str]:
                with OpenAI(base_url=f"http://127.0.0.1:{here.port}/v1", api_key=KEY, max_retries=0) as client:
                    return [model.id for model in client.models.list()]

            assert await asyncio.get_running_loop().run_in_executor(None, ask) == ["tiny"]

    run(main())


def test_metrics_tell_requests_engines_and_gpus_and_prometheus_reads_them() -> None:
    async def main() -> None:
        async with place(gpus=lambda: [GPU]) as here:
            await here.ask()
            await here.ask(stream=True)
            await here.ask(status=400)
            here.publish(here.ready(restarts=2))
            client = await here.client()
            await client.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = await client.answer()
            samples = {
                (sample.name, *sorted(sample.labels.items())): sample.value
                for family in text_string_to_metric_families(answer.body.decode())
                for sample in family.samples
            }
            model = ("model", "tiny")
            assert samples["launcher_requests_total", model, ("status", "200")] == 2
            assert samples["launcher_requests_total", model, ("status", "400")] == 1
            assert samples["launcher_tokens_total", ("kind", "prompt"), model] == 14
            assert samples["launcher_restarts_total", model] == 2
            assert samples["launcher_engines", model] == 1
            assert samples["launcher_state", model, ("state", "ready")] == 1
            assert samples["launcher_request_seconds_count", model] == 3
            assert samples["launcher_time_to_first_token_seconds_count", model] == 3
            assert samples["launcher_inter_token_seconds_count", model] >= 1
            assert samples["launcher_in_flight", model] == 0
            assert samples["vllm:running", model] == 1
            gpu = (("gpu", "0"), ("name", "NVIDIA H100"), ("uuid", "GPU-1"))
            assert samples["launcher_gpu_temperature_celsius", *gpu] == 61
            assert ("launcher_gpu_power_watts", *gpu) not in samples

    run(main())


def test_metrics_tell_how_many_engines_answer_for_a_model() -> None:
    async def main() -> None:
        async with place(engines=2) as here:
            for expected in (here.engines, here.engines[1:], []):
                here.publish(here.ready(*expected) if expected else Route("tiny", "starting"))
                text = (await here.get("/metrics")).body.decode()
                assert f'launcher_engines{{model="tiny"}} {len(expected)}.0' in text

    run(main())


def test_an_engine_that_tells_no_metrics_hides_nobody_elses() -> None:
    async def main() -> None:
        async with place(engines=2) as here:
            here.publish(here.ready(here.engines[0]), here.ready(here.engines[1], name="other"))
            await here.engines[1].stop()
            text = (await here.get("/metrics")).body.decode()
            assert 'vllm:running{model="tiny"} 1.0' in text
            assert 'vllm:running{model="other"}' not in text

    run(main())


def test_the_log_tells_who_asked_for_what_and_nothing_of_what_was_said(tmp_path: Path) -> None:
    path = tmp_path / "gateway.log"

    async def main() -> None:
        async with place(log=path) as here:
            await here.ask("/v1/completions?api_key=sk-secret", prompt="a secret")
            await here.ask("/v1/evil\r".replace("\r", "%0d"), key="wrong-key")
            client = await here.client()
            await client.send(request(delay=5))
            await until(lambda: len(here.engines[0].seen) == 2)
            client.leave()
            await until(lambda: path.exists() and len(path.read_text().splitlines()) == 3)

    run(main())
    lines = [line.split() for line in path.read_text().splitlines()]
    assert [line[2:7] for line in lines] == [
        ["default", "POST", "/v1/completions", "tiny", "200"],
        ["-", "POST", "/v1/evil%0d", "-", "404"],
        ["default", "POST", "/v1/chat/completions", "tiny", "499"],
    ]
    assert all(line[1].startswith("req-") for line in lines)
    assert not {word for word in ("secret", "sk-", "wrong") if word in path.read_text()}
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_log_that_is_full_becomes_the_older_of_two(tmp_path: Path) -> None:
    path = tmp_path / "gateway.log"
    path.write_bytes(bytes((16 << 20) + 1))
    write(path, [Line(0.25, 1, "", b"GET", b"/\xff\n", "", 404, 0.5, 0.0, 0)])
    assert path.read_text() == "1970-01-01T00:00:00.250Z req-1 - GET /\\xff\\n - 404 500.0ms 0B\n"
    assert path.with_name("gateway.log.1").stat().st_size > 16 << 20
    write(tmp_path / "none" / "gateway.log", [])  # a disk that takes nothing stops nothing


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost and its key."""
    return certificate(tmp_path_factory.mktemp("tls"), "127.0.0.1")


def test_tls_serves_the_same(pair: tuple[Path, Path]) -> None:
    async def main() -> None:
        async with place(tls=tls.context(*pair), limits=replace(QUICK, linger=0.2)) as here:
            trust = ssl.create_default_context(cafile=str(pair[0]))
            async with httpx.AsyncClient(verify=trust, headers={"Authorization": f"Bearer {KEY}"}) as client:
                url = f"https://localhost:{here.port}"
                assert (await client.get(f"{url}/v1/models")).status_code == 200
                large = await client.post(
                    f"{url}/v1/completions", json={"model": "tiny", "prompt": "x" * 300_000, "size": 300_000}
                )
                assert len(large.json()["filler"]) == 300_000
                refused = await client.post(f"{url}/v1/completions", json={}, headers={"Authorization": "Bearer x"})
                assert refused.status_code == 401

    run(main())


def test_files_that_are_no_pair_are_a_known_fault(pair: tuple[Path, Path], tmp_path: Path) -> None:
    signed, key = pair
    locked = tmp_path / "locked.pem"
    argv = ["openssl", "pkey", "-in", str(key), "-aes256", "-passout", "pass:secret", "-out", str(locked)]
    subprocess.run(argv, check=True, capture_output=True)
    for files, said in (
        ((signed, tmp_path / "none.pem"), "there is no file"),
        ((signed, signed), "are no pair"),
        ((signed, locked), "asks for a password"),
    ):
        with pytest.raises(LauncherError, match=said):
            tls.context(*files)


def test_the_dashboard_asks_for_what_the_gateway_tells() -> None:
    asked = set(re.findall(r"launcher_[a-z_]+", (ROOT / "docs" / "grafana.json").read_text()))
    told: set[str] = set()

    async def main() -> None:
        async with place(gpus=lambda: [replace(GPU, power=300.0)]) as here:
            await here.ask()
            text = (await here.get("/metrics")).body.decode()
            told.update(sample.name for family in text_string_to_metric_families(text) for sample in family.samples)

    run(main())
    assert len(asked) > 10
    assert asked <= told
