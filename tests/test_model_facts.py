"""The facts of models, asked of a real client and a hub on loopback, and read from real folders."""

from dataclasses import replace
from pathlib import Path

import pytest

from launcher import hub, model_facts, weights
from launcher.deciding import decide
from launcher.errors import LauncherError
from launcher.home import Home
from launcher.plan import Plan
from launcher.profile_weights import HubWeights, LocalWeights
from launcher.progress import Silent
from launcher.server import ServerSpec
from launcher.world import World
from tests.hub_server import Hub, Repository
from tests.machines_for_tests import machine
from tests.models_for_tests import TINY_POSITIONS, coder, index, safetensors, tiny_folder
from tests.test_weights import hub_env
from tests.world import little_world

SHARDS = {"model-1.safetensors": safetensors(3_000), "model-2.safetensors": safetensors(2_000)}
FILES = {**{name: text.encode() for name, text in coder().items()}, **SHARDS, "README.md": b"# it", "modeling_x.py": b"raise"}
CODER = HubWeights("org/Coder-7B")


def world_on(tmp_path: Path, env: dict[str, str]) -> World:
    """A little world with four large GPUs, which asks this hub."""
    return replace(
        little_world(tmp_path),
        inventory=lambda: machine(4, 79.18),
        facts=lambda weights: model_facts.read(weights, home=Home(tmp_path), progress=Silent(), env=env),
    )


def test_only_small_files_are_fetched_and_the_sizes_of_the_large_are_known(tmp_path: Path) -> None:
    with Hub({"org/Coder-7B": Repository(FILES)}) as server:
        facts = model_facts.read(CODER, home=Home(tmp_path), progress=Silent(), env=hub_env(tmp_path, server.url))
        assert not [line for line in server.asked if "safetensors" in line and "index" not in line]
        assert not [line for line in server.asked if line.endswith((".py", ".md"))]
    assert facts.texts == coder()
    assert facts.sizes == {name: len(content) for name, content in SHARDS.items()}


@pytest.mark.parametrize(
    "away",
    [
        pytest.param({"HF_HUB_OFFLINE": "1"}, id="the user is offline on purpose"),
        pytest.param({"HF_ENDPOINT": "http://127.0.0.1:9"}, id="nobody answers"),
    ],
)
def test_a_later_plan_answers_without_the_hub(tmp_path: Path, away: dict[str, str]) -> None:
    with Hub({"org/Coder-7B": Repository(FILES)}) as server:
        env = hub_env(tmp_path, server.url)
        first = decide(world_on(tmp_path, env), ServerSpec("org/Coder-7B"), machine(1, 79.18))
    again = decide(world_on(tmp_path, {**env, **away}), ServerSpec("org/Coder-7B"), machine(1, 79.18))
    assert isinstance(first, Plan)
    assert isinstance(again, Plan)
    assert (again.profile.name, again.variant.name, again.context) == (first.profile.name, "bf16", first.context)


def test_the_users_token_opens_a_gated_repository(tmp_path: Path) -> None:
    with Hub({"org/Coder-7B": Repository(FILES, gated=True)}) as server:
        env = hub_env(tmp_path, server.url, HF_TOKEN=server.token)
        assert model_facts.read(CODER, home=Home(tmp_path), progress=Silent(), env=env).texts == coder()


CODE = Repository({**FILES, "config.json": coder(auto_map={"AutoConfig": "modeling_x.Y"})["config.json"].encode()})
ELSEWHERE = Repository({**FILES, "config.json": coder(auto_map={"AutoConfig": "else/where--x.Y"})["config.json"].encode()})
NO_CONFIG = {"model.safetensors": safetensors(10)}
CUT = {**FILES, "config.json": b'{"model_type": "qwen2", "num_hid'}


@pytest.mark.parametrize(
    ("repo", "more", "message", "hint"),
    [
        pytest.param("org/none", {}, "the hub has no repository org/none", "check the name", id="no such repository"),
        pytest.param("org/gated", {}, "org/gated is gated", "accept the terms at http", id="a gated one"),
        pytest.param("org/gguf", {}, "no weights that an engine can load", ".safetensors", id="weights in another format"),
        pytest.param("org/bare", {}, "org/bare has no config.json", "Hugging Face format", id="no config.json"),
        pytest.param("org/cut", {}, "config.json of org/cut is not valid JSON", "half written", id="a cut config.json"),
        pytest.param("org/code", {}, "run here with your rights: modeling_x.py", "--trust-remote-code", id="code of its own"),
        pytest.param("org/new", {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE", "launcher pack", id="offline"),
        pytest.param("org/new", {"HF_ENDPOINT": "http://127.0.0.1:9"}, "cannot reach the hub", "the network", id="no network"),
        pytest.param("a/b/c", {}, "'a/b/c' names neither a repository nor a folder", "./a/b/c", id="neither name nor folder"),
    ],
)
def test_what_cannot_be_planned_is_told_in_one_line(
    tmp_path: Path, repo: str, more: dict[str, str], message: str, hint: str
) -> None:
    repositories = {
        "org/gated": Repository(FILES, gated=True),
        "org/gguf": Repository({"config.json": b"{}", "model.gguf": b"GGUF"}),
        "org/bare": Repository(NO_CONFIG),
        "org/cut": Repository(CUT),
        "org/code": CODE,
    }
    with Hub(repositories) as server, pytest.raises(LauncherError) as fault:
        decide(world_on(tmp_path, hub_env(tmp_path, server.url, **more)), ServerSpec(repo), machine(1, 79.18))
    assert message in fault.value.message
    assert hint in fault.value.hint
    assert "\n" not in fault.value.message


# -- code out of repositories --


def test_code_runs_only_at_the_commit_that_was_agreed_to(tmp_path: Path) -> None:
    moved = replace(CODE, files={**CODE.files, "modeling_x.py": b"evil()"}, older=(CODE,))
    with Hub({"org/code": moved}) as server:
        world = world_on(tmp_path, hub_env(tmp_path, server.url))
        plan = decide(world, ServerSpec("org/code", trust_remote_code=CODE.commit), machine(1, 79.18))
        assert isinstance(plan, Plan)
        assert plan.variant.weights == HubWeights("org/code", CODE.commit, code=True)
        assert plan.args.count("--trust-remote-code") == 1
        assert f"code of org/code runs, as was agreed to for {CODE.commit}: modeling_x.py" in plan.notes
        path = weights.fetch(
            world.home,
            "code",
            plan.variant.weights,
            environment_python=Path,
            progress=Silent(),
            env=hub_env(tmp_path, server.url),
        )
        assert (path.name, (path / "modeling_x.py").read_bytes()) == (CODE.commit, b"raise")
        again = decide(world, ServerSpec("code", origin="org/code", trust_remote_code=CODE.commit), machine(1, 79.18))
        assert isinstance(again, Plan)
        assert again.variant.weights == plan.variant.weights


@pytest.mark.parametrize(
    ("repository", "word", "message"),
    [
        pytest.param(ELSEWHERE, "org/code", "would run code out of another repository, else/where", id="code of others"),
        pytest.param(Repository({"config.json": b"{}", **SHARDS}), "org/code", "brings no code of its own", id="there is none"),
        pytest.param(CODE, "tiny", "tiny brings no code of its own", id="a profile"),
        pytest.param(CODE, "./folder", "./folder brings no code of its own", id="a folder"),
    ],
)
def test_what_cannot_be_agreed_to_is_told(tmp_path: Path, repository: Repository, word: str, message: str) -> None:
    with Hub({"org/code": repository}) as server:
        world = world_on(tmp_path, hub_env(tmp_path, server.url))
        with pytest.raises(LauncherError, match=message):
            decide(world, ServerSpec(word, trust_remote_code=repository.commit), machine(1, 79.18))


# -- what was served before --


@pytest.mark.parametrize(
    ("pinned", "revision"),
    [
        pytest.param("org/Coder-7B@c0ffee", "c0ffee", id="the same commit"),
        pytest.param("org/other@c0ffee", None, id="of another repository, the branch as it is"),
        pytest.param("", None, id="nothing yet, the branch as it is"),
    ],
)
def test_a_restart_serves_the_weights_that_were_served(tmp_path: Path, pinned: str, revision: str | None) -> None:
    with Hub({"org/Coder-7B": Repository(FILES)}) as server:
        world = world_on(tmp_path, hub_env(tmp_path, server.url))
        plan = decide(world, ServerSpec("org/Coder-7B", pinned=pinned), machine(1, 79.18))
    assert isinstance(plan, Plan)
    assert plan.variant.weights == HubWeights("org/Coder-7B", revision)


# -- folders --


@pytest.mark.parametrize(
    "word",
    [
        pytest.param("./models/My-Model", id="from where the user stands"),
        pytest.param("../here/models/My-Model/", id="by a way around"),
        pytest.param("~/../here/models/My-Model", id="from the user's home"),
        pytest.param("{here}/models/My-Model", id="from the root"),
    ],
)
def test_a_folder_is_planned_as_it_is(tmp_path: Path, word: str) -> None:
    world = little_world(tmp_path)
    folder = tiny_folder(world.cwd / "models" / "My-Model")
    plan = decide(world, ServerSpec(word.format(here=world.cwd)), world.inventory())
    assert isinstance(plan, Plan)
    assert (plan.profile.name, plan.profile.origin) == ("my-model", str(folder))
    assert plan.variant.weights == LocalWeights(folder)
    assert plan.memory.weights == (folder / "model.safetensors").stat().st_size + TINY_POSITIONS


def test_what_was_asked_for_is_found_again_from_anywhere(tmp_path: Path) -> None:
    world = little_world(tmp_path)
    folder = tiny_folder(world.cwd / "mine")
    plan = decide(world, ServerSpec("./mine"), world.inventory())
    assert isinstance(plan, Plan)
    kept = ServerSpec(plan.profile.name, origin=plan.profile.origin)
    assert decide(replace(world, cwd=tmp_path), kept, world.inventory()) == plan
    assert folder.name == kept.model


@pytest.mark.parametrize(
    ("files", "message"),
    [
        pytest.param({}, "has no config.json", id="an empty folder"),
        pytest.param({"config.json": "{"}, "is not valid JSON", id="a cut config.json"),
        pytest.param({"config.json": coder()["config.json"], hub.FACTS[1]: index(None)}, "tells no sizes", id="no sizes"),
    ],
)
def test_a_folder_that_is_no_model_is_told(tmp_path: Path, files: dict[str, str], message: str) -> None:
    world = little_world(tmp_path)
    (world.cwd / "it").mkdir()
    for name, text in files.items():
        (world.cwd / "it" / name).write_text(text)
    with pytest.raises(LauncherError, match=message):
        decide(world, ServerSpec("./it"), world.inventory())


@pytest.mark.parametrize(
    ("word", "message"),
    [
        pytest.param("./none", "does not exist", id="nothing there"),
        pytest.param("./file", "is a file, not the folder of a model", id="a file"),
    ],
)
def test_what_is_no_folder_is_told(tmp_path: Path, word: str, message: str) -> None:
    world = little_world(tmp_path)
    (world.cwd / "file").write_text("")
    with pytest.raises(LauncherError, match=message):
        decide(world, ServerSpec(word), world.inventory())


# -- repositories that a profile names --

PROFILE = (Path(__file__).parent.parent / "profiles" / "openhands-lm-32b.toml").read_text()


@pytest.mark.parametrize("repo", ["all-hands/openhands-lm-32b-v0.1", "All-Hands/OpenHands-LM-32B-v0.1"])
def test_a_repository_that_a_profile_names_means_the_profile(tmp_path: Path, repo: str) -> None:
    world = world_on(tmp_path, {})
    (world.profiles[0] / "openhands-lm-32b.toml").write_text(PROFILE)
    plan = decide(world, ServerSpec(repo), machine(2, 79.25))
    assert isinstance(plan, Plan)
    assert (plan.profile.name, plan.profile.origin, plan.profile.yarn_factor) == ("openhands-lm-32b", "", 4.0)


def test_a_repository_of_one_variant_means_that_variant(tmp_path: Path) -> None:
    world = world_on(tmp_path, {})
    head, _, tail = PROFILE.rpartition('repo = "all-hands/openhands-lm-32b-v0.1"')
    (world.profiles[0] / "openhands-lm-32b.toml").write_text(f'{head}repo = "someone/openhands-lm-mxfp4"{tail}')
    plan = decide(world, ServerSpec("someone/openhands-lm-mxfp4"), machine(2, 79.25))
    assert isinstance(plan, Plan)
    assert (plan.profile.name, plan.variant.name) == ("openhands-lm-32b", "mxfp4")
    assert plan.profile.origin == "someone/openhands-lm-mxfp4"
