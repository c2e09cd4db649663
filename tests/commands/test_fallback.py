"""Providers' models at the gateway in a little world: a model server on this machine is the provider, the stub the engine."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from launcher import configurations, keys, store
from launcher.commands import alias, chat, down, llm, llm_rm, llm_serve, ps, swap, up
from launcher.commands.swap import SwapRequest
from launcher.commands.up import UpRequest
from launcher.errors import LauncherError
from launcher.llm_settings import Settings
from launcher.server import ServerSpec
from launcher.world import World
from tests.model_server import WORDS, ModelServer, serving
from tests.ports_for_tests import own_port
from tests.stub_engine import ANSWER
from tests.world import StubEngine, ended, little_world, roomy, with_engine

KEY = "sk-provider-0123456789"


@pytest.fixture
def provider() -> Iterator[ModelServer]:
    with serving(ModelServer()) as made:
        yield made


@dataclass
class Town:
    """A world, its port, and a configuration `sky` of a provider."""

    world: World
    port: int

    def request(self, **more: Any) -> UpRequest:
        return UpRequest(spec=ServerSpec(model="tiny"), port=self.port, proof=False, **more)

    def ask(self, model: str = "tiny", **headers: str) -> httpx.Response:
        key = keys.ensure(self.world.home.key)
        return httpx.post(
            f"http://127.0.0.1:{self.port}/v1/chat/completions",
            headers={"Authorization": f"Bearer {key}", **headers},
            json={"model": model, "messages": [{"role": "user", "content": "What is the capital of France?"}]},
            timeout=30,
        )

    def who(self) -> str:
        """Who answers for `tiny`."""
        return str(self.ask().headers.get("x-launcher-fallback", "itself"))


@pytest.fixture
def town(tmp_path: Path, provider: ModelServer) -> Iterator[Town]:
    world = little_world(tmp_path, models=("tiny",), context=32_768)
    fields = {"model": "openai/m", "base_url": f"{provider.address}/v1"}
    configurations.save(world.home, "sky", Settings("compatible", fields), {"api_key": KEY})
    yield Town(world, own_port())
    for name in store.remotes(world.home):
        llm_serve.run(world, name, remove=True)
    if store.wishes(world.home)[0]:
        down.run(world, None)
    ended(world)


def awaited(happened: Callable[[], bool], seconds: float = 20.0) -> None:
    """Until it has happened; what never happens is a failure, not a wait without end."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def text(result: Any) -> str:
    from rich.console import Console

    console = Console(width=250)
    with console.capture() as captured:
        console.print(result.text())
    return captured.get()


def test_a_killed_engines_requests_go_to_the_fallback_until_it_is_back(town: Town, provider: ModelServer) -> None:
    result = up.run(town.world, town.request(fallback="sky"))
    assert "while tiny is down, sky answers (an OpenAI-compatible server, 127.0.0.1)" in text(result)
    assert json.loads(json.dumps(result.json()))["fallback"] == "sky"
    assert town.ask().json()["choices"][0]["message"]["content"] == ANSWER
    assert not provider.asked, "its proof and its requests were its own"
    pid = ps.run(town.world).rows[0].pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    answer = town.ask()
    assert (answer.json()["choices"][0]["message"]["content"], answer.headers["x-launcher-fallback"]) == (WORDS, "sky")
    [asked] = provider.asked
    assert (asked.path, asked.headers["authorization"], asked.body["model"]) == (
        "/v1/chat/completions",
        f"Bearer {KEY}",
        "m",
    )
    awaited(lambda: town.who() == "itself")
    assert ps.run(town.world).rows[0].server.restarts == 1


def test_of_several_replicas_all_must_be_gone_before_a_request_leaves_the_machine(town: Town, provider: ModelServer) -> None:
    spec = ServerSpec(model="tiny", replicas=2)
    up.run(town.world, replace(town.request(fallback="sky"), spec=spec))

    def pids() -> list[int]:
        return [row.pid for row in ps.run(town.world).rows if row.pid and row.state == "ready"]

    first, second = pids()
    os.kill(first, signal.SIGKILL)
    assert {town.who() for _ in range(5)} == {"itself"}
    awaited(lambda: len(pids()) == 2)
    assert second in pids()
    assert not provider.asked
    for pid in pids():
        os.kill(pid, signal.SIGKILL)
    assert town.who() == "sky"
    awaited(lambda: town.who() == "itself")
    down.run(town.world, None)


def test_a_client_can_forbid_it_for_its_request(town: Town, provider: ModelServer) -> None:
    up.run(town.world, town.request(fallback="sky"))
    pid = ps.run(town.world).rows[0].pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    answer = town.ask(**{"X-Launcher-Fallback": "none"})
    assert (answer.status_code, answer.json()["choices"][0]["message"]["content"]) == (200, ANSWER)
    assert not provider.asked


def test_agents_are_answered_while_the_model_starts_and_the_proof_is_its_own(town: Town, provider: ModelServer) -> None:
    world = with_engine(town.world, StubEngine({"": ("--slow-start", "1.5")}))
    slow = replace(town, world=world)
    seen: list[str] = []

    def look() -> None:
        if not seen and store.listening(world.home)[0] == town.port:
            seen.append(slow.who())

    class Looks:
        """A Progress that asks as an agent would, as soon as the gateway listens."""

        def __getattr__(self, name: str) -> Any:
            return getattr(town.world.progress, name)

        def update(self, *_: Any, **__: Any) -> None:
            look()

    up.run(replace(world, progress=Looks()), slow.request(fallback="sky"))
    assert seen == ["sky"]
    assert len(provider.asked) == 1, "only the agent's question: no proof goes to a provider"
    assert slow.who() == "itself"


def test_what_is_up_gets_a_fallback_and_loses_it_without_a_restart(town: Town) -> None:
    up.run(town.world, town.request())
    pid = ps.run(town.world).rows[0].pid
    given = up.run(town.world, town.request(fallback="sky"))
    assert (given.already, given.fallback) == (True, "sky")
    assert up.run(town.world, town.request()).fallback == "sky", "it is kept until it is taken back"
    shown = ps.run(town.world)
    assert "while tiny is down, sky answers" in text(shown)
    assert json.loads(json.dumps(shown.json()))[0]["fallback"] == "sky"
    taken = up.run(town.world, town.request(fallback=""))
    assert (taken.fallback, ps.run(town.world).fallbacks) == ("", ())
    assert ps.run(town.world).rows[0].pid == pid


def test_a_model_that_rests_is_called_and_nothing_leaves_the_machine(town: Town, provider: ModelServer) -> None:
    up.run(town.world, town.request(fallback="sky", idle_stop=0.5))
    awaited(lambda: ps.run(town.world).rows[0].state == "idle")
    assert town.who() == "itself"
    assert not provider.asked


def test_a_swap_holds_requests_and_keeps_the_fallback(tmp_path: Path, provider: ModelServer) -> None:
    made = roomy(tmp_path, engine=StubEngine({"other": ("--slow-start", "0.5")}))
    fields = {"model": "openai/m", "base_url": f"{provider.address}/v1"}
    configurations.save(made.home, "sky", Settings("compatible", fields), {"api_key": KEY})
    town = Town(made, own_port())
    seen: list[str] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            answer = town.ask()
            seen.append(answer.headers.get("x-launcher-fallback", str(answer.status_code)))

    try:
        up.run(made, town.request(fallback="sky"))
        asking = threading.Thread(target=ask)
        asking.start()
        result = swap.run(made, SwapRequest("other"))
        over.set()
        asking.join()
        assert (result.kind, result.exit_code) == ("in turn", 0)
        assert set(seen) == {"200"}
        assert [want.fallback for want in store.wanted(made.home) if want.name == "other"] == ["sky"]
        assert not provider.asked
        pid = next(row.pid for row in ps.run(made).rows if row.server.name == "other")
        assert pid
        os.kill(pid, signal.SIGKILL)
        assert town.who() == "sky", "under the name that agents know"
    finally:
        over.set()
        down.run(made, None)
        ended(made)


def test_what_down_stopped_stays_stopped_and_keeps_no_fallback(town: Town, provider: ModelServer) -> None:
    up.run(town.world, town.request(fallback="sky"))
    llm_serve.run(town.world, "sky")  # something that keeps the gateway there
    down.run(town.world, None)
    awaited(lambda: town.ask().status_code == 404)
    assert not provider.asked
    assert up.run(town.world, town.request()).fallback == ""


def test_a_dry_run_says_where_requests_would_go(town: Town) -> None:
    result = up.dry_run(town.world, town.request(fallback="sky"))
    assert "while tiny is down, sky answers" in text(result)
    assert not store.wishes(town.world.home)[0]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        pytest.param({"max_input_tokens": 16_384}, "sky takes 16,384 tokens, and agents are told 30,310", id="a smaller one"),
        pytest.param({}, "how much context sky takes is not known", id="a window that nobody tells"),
    ],
)
def test_a_window_that_is_not_what_agents_were_told_is_warned_of(town: Town, said: Mapping[str, int], words: str) -> None:
    kept = configurations.load(town.world.home, "sky")
    assert kept
    configurations.save(town.world.home, "sky", replace(kept.settings, fields={**kept.settings.fields, **said}), {})
    assert words in text(up.dry_run(town.world, town.request(fallback="sky")))


def test_what_leaves_the_machine_and_costs_is_said(town: Town) -> None:
    configurations.save(town.world.home, "gpt", Settings("openai", {"model": "openai/gpt-5.6"}), {"api_key": KEY})
    shown = text(up.dry_run(town.world, town.request(fallback="gpt")))
    assert "gpt answers (OpenAI, api.openai.com: requests leave this machine and may cost money)" in shown
    assert "`launcher up tiny --no-fallback` ends that" in shown


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        pytest.param("nobody", None, "there is no LLM configuration called 'nobody'", id="none of that name"),
        pytest.param(
            "aws",
            Settings("bedrock", {"model": "bedrock/m", "aws_region_name": "r"}),
            "aws cannot be asked by the gateway: requests to AWS Bedrock are signed",
            id="one whose requests are signed",
        ),
        pytest.param(
            "me",
            Settings("compatible", {"model": "openai/m", "base_url": "PORT"}),
            "it would ask itself",
            id="itself",
        ),
    ],
)
def test_a_fallback_that_cannot_be_is_refused_before_anything_starts(
    town: Town, name: str, settings: Settings | None, message: str
) -> None:
    store.keep_port(town.world.home, town.port)
    if settings:
        fields = {**settings.fields}
        if "base_url" in fields:
            fields["base_url"] = f"http://localhost:{town.port}/v1"
        configurations.save(town.world.home, name, replace(settings, fields=fields), {"api_key": KEY})
    with pytest.raises(LauncherError) as caught:
        up.run(town.world, town.request(fallback=name))
    assert message in caught.value.message
    assert caught.value.hint
    assert not store.look(town.world.home)[0]


def test_a_provider_is_served_under_its_own_name_without_any_local_model(town: Town, provider: ModelServer) -> None:
    store.keep_port(town.world.home, town.port)
    configurations.save(
        town.world.home,
        "sky",
        Settings("compatible", {"model": "openai/m", "base_url": f"{provider.address}/v1", "max_input_tokens": 65_536}),
        {},
    )
    result = llm_serve.run(town.world, "sky")
    assert result.base_url == f"http://127.0.0.1:{town.port}/v1"
    awaited(lambda: store.listening(town.world.home)[0] == town.port)
    answer = town.ask("sky")
    assert (answer.json()["choices"][0]["message"]["content"], "x-launcher-fallback" in answer.headers) == (WORDS, False)
    assert town.ask("sky", Authorization="Bearer wrong").status_code == 401, "the gateway's own key is needed"
    key = keys.ensure(town.world.home.key)
    listed = httpx.get(f"http://127.0.0.1:{town.port}/v1/models", headers={"Authorization": f"Bearer {key}"}).json()["data"]
    assert [(each["id"], each["state"], each["max_model_len"]) for each in listed] == [("sky", "remote", 65_536)]
    shown = ps.run(town.world)
    assert "an OpenAI-compatible server, 127.0.0.1" in text(shown)
    assert json.loads(json.dumps(shown.json()))[0]["state"] == "remote"
    assert [row.state for row in llm.run(town.world, {}).rows] == ["served"]
    held = "".join(path.read_text() for path in town.world.home.state.rglob("*.json"))
    assert KEY not in held + text(result) + text(shown) + json.dumps(shown.json())
    llm_serve.run(town.world, "sky", remove=True)
    ended(town.world)
    with pytest.raises(httpx.ConnectError):
        town.ask("sky")


def test_another_key_for_the_provider_is_taken_at_once(town: Town, provider: ModelServer) -> None:
    store.keep_port(town.world.home, town.port)
    llm_serve.run(town.world, "sky")
    awaited(lambda: store.listening(town.world.home)[0] == town.port)
    kept = configurations.load(town.world.home, "sky")
    assert kept
    configurations.save(town.world.home, "sky", kept.settings, {"api_key": "sk-second"})

    def told() -> bool:
        town.ask("sky")
        return provider.asked[-1].headers["authorization"] == "Bearer sk-second"

    awaited(told)


def test_what_the_gateway_asks_is_not_forgotten_and_its_name_is_taken(town: Town) -> None:
    up.run(town.world, town.request(fallback="sky"))
    with pytest.raises(LauncherError, match="sky is the fallback of tiny"):
        llm_rm.run(town.world, "sky", {})
    up.run(town.world, town.request(fallback=""))
    llm_serve.run(town.world, "sky")
    with pytest.raises(LauncherError, match="sky is served under its own name"):
        llm_rm.run(town.world, "sky", {})
    with pytest.raises(LauncherError, match="sky is a provider's model that is served"):
        alias.run(town.world, "sky", "tiny")
    assert alias.run(town.world, "gpt", "sky").aliases == {"gpt": "sky"}
    awaited(lambda: town.ask("gpt").status_code == 200)
    llm_serve.run(town.world, "sky", remove=True)
    llm_rm.run(town.world, "sky", {})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("nobody", "there is no LLM configuration called 'nobody'", id="none of that name"),
        pytest.param("tiny", "tiny is a model of this machine", id="a model of this machine"),
        pytest.param("other", "other is another name of tiny", id="another name of a model"),
    ],
)
def test_what_is_no_providers_model_is_not_served(town: Town, name: str, message: str) -> None:
    up.run(town.world, town.request())
    alias.run(town.world, "other", "tiny")
    kept = configurations.load(town.world.home, "sky")
    assert kept
    configurations.save(town.world.home, "other", kept.settings, {"api_key": KEY})
    with pytest.raises(LauncherError, match=message):
        llm_serve.run(town.world, name)
    assert not store.remotes(town.world.home)


@pytest.mark.parametrize("verb", ["up", "swap", "chat"])
def test_a_providers_model_is_not_taken_for_one_that_is_unknown(town: Town, verb: str) -> None:
    up.run(town.world, town.request())
    verbs: Mapping[str, Callable[[], object]] = {
        "up": lambda: up.run(town.world, UpRequest(spec=ServerSpec(model="sky"))),
        "swap": lambda: swap.run(town.world, SwapRequest("sky", alias="tiny")),
        "chat": lambda: chat.endpoint(town.world, "sky"),
    }
    with pytest.raises(LauncherError, match="sky is a provider's model: it cannot run here") as caught:
        verbs[verb]()
    assert "launcher llm serve sky" in caught.value.hint


def test_whoever_is_served_can_be_talked_to_by_each_of_its_names(town: Town) -> None:
    up.run(town.world, town.request())
    alias.run(town.world, "default", "tiny")
    llm_serve.run(town.world, "sky")
    awaited(lambda: town.ask("sky").status_code == 200)
    answers = {name: chat.run(chat.endpoint(town.world, name), "And of France?").answer for name in ("tiny", "default", "sky")}
    assert answers == {"tiny": ANSWER, "default": ANSWER, "sky": WORDS}


def test_a_damaged_record_of_what_is_served_costs_no_model(town: Town) -> None:
    path = town.world.home.make().state / "remotes.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text('{"version": 3, "remotes": {"sky": 1}}')
    up.run(town.world, town.request(fallback="sky"))
    assert town.ask().json()["choices"][0]["message"]["content"] == ANSWER
    with pytest.raises(LauncherError, match=r"remotes\.json is damaged"):
        ps.run(town.world)
    path.unlink()


def test_a_fallback_whose_configuration_went_is_told_and_the_model_is_waited_for(town: Town, provider: ModelServer) -> None:
    up.run(town.world, town.request(fallback="sky"))
    configurations.remove(town.world.home, "sky")
    awaited(lambda: "sky cannot stand in for tiny: there is no LLM configuration called 'sky'" in text(ps.run(town.world)))
    pid = ps.run(town.world).rows[0].pid
    assert pid
    time.sleep(0.5)  # the gateway looks four times a second
    os.kill(pid, signal.SIGKILL)
    assert town.who() == "itself"
    assert not provider.asked
