import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher import catalogue, derive, model_facts, profile, recipe_site
from launcher.commands import models, models_add, models_check, models_show
from launcher.deciding import decide, find
from launcher.engines import vllm
from launcher.engines.base import Site
from launcher.engines.registry import ENGINES
from launcher.errors import LauncherError
from launcher.gpu import GIB, GpuProcess, Inventory
from launcher.machines import inventory_on
from launcher.plan import Plan
from launcher.profile_weights import HubWeights
from launcher.progress import Silent
from launcher.server import ServerSpec
from launcher.world import World
from tests.hub_server import Hub, Repository
from tests.machines_for_tests import machine
from tests.models_for_tests import TINY_POSITIONS, coder, safetensors, tiny_folder
from tests.recipes_for_tests import THOUGHTS, TOOLS, recipe
from tests.recipes_for_tests import Site as RecipeSite
from tests.test_weights import hub_env
from tests.world import Told, little_world

OPENHANDS = (catalogue.shipped() / "openhands-lm-32b.toml").read_text()


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A little world with a tiny model, and with OpenHands' own."""
    made = little_world(tmp_path)
    (made.profiles[0] / "openhands-lm-32b.toml").write_text(OPENHANDS)
    return made


def taken(inventory: Inventory, *held: GpuProcess) -> Inventory:
    """The machine with these processes on each of its GPUs."""
    used = sum(process.used for process in held)
    return replace(inventory, gpus=tuple(replace(gpu, free=gpu.free - used, processes=held) for gpu in inventory.gpus))


def rows(world: World, inventory: Inventory) -> dict[str, Any]:
    plain: Any = json.loads(json.dumps(models.run(world, inventory).json()))
    return {row["name"]: row for row in plain}


TRAINING, DESKTOP = GpuProcess(77, "python", 40 * GIB), GpuProcess(5, "Xorg", GIB)
SECRETIVE = GpuProcess(9, "VLLM::EngineCore", 0)


@pytest.mark.parametrize(
    ("inventory", "group", "more"),
    [
        pytest.param(machine(1, 79.18), "now", {"variant": "fp8", "context": 78_848}, id="a large GPU"),
        pytest.param(
            taken(machine(1, 79.18), DESKTOP, TRAINING),
            "now",
            {"variant": "mxfp4"},
            id="a GPU that others use, with room for fewer bits",
        ),
        pytest.param(
            taken(machine(1, 44.4), DESKTOP, TRAINING),
            "if_freed",
            {
                "if_freed": {"variant": "mxfp4", "context": 32_768},
                "holders": [
                    {"pid": 77, "name": "python", "used": 40 * GIB},
                    {"pid": 5, "name": "Xorg", "used": GIB},
                ],
            },
            id="a GPU that others fill: the greatest holder first",
        ),
        pytest.param(
            taken(machine(2, 23.58), replace(TRAINING, used=15 * GIB)),
            "if_freed",
            {"holders": [{"pid": 77, "name": "python", "used": 30 * GIB}]},
            id="one process on two GPUs is told once",
        ),
        pytest.param(
            replace(
                machine(),
                gpus=tuple(replace(gpu, free=GIB, processes=(SECRETIVE,)) for gpu in machine(1, 44.4).gpus),
            ),
            "if_freed",
            {"holders": [{"pid": 9, "name": "VLLM::EngineCore", "used": 0}]},
            id="the driver does not say how much is held",
        ),
        pytest.param(machine(1, 14.6), "does_not_fit", {"needs": "RTX-5090"}, id="a small GPU"),
        pytest.param(machine(ram=16), "does_not_fit", {"needs": "RTX-5090"}, id="no GPU"),
    ],
)
def test_each_model_stands_in_its_group(world: World, inventory: Inventory, group: str, more: dict[str, Any]) -> None:
    row = rows(world, inventory)["openhands-lm-32b"]
    assert (row["group"], row["fits"]) == (group, group == "now")
    assert {key: row[key] for key in more} == more
    assert group == "now" or row["reasons"]


def test_a_model_that_memory_of_the_host_holds_up_is_told_so(world: World) -> None:
    row = rows(world, replace(machine(ram=16), ram=replace(machine(ram=16).ram, available=GIB // 8)))["tiny"]
    assert (row["group"], row["holders"], row["if_freed"]["context"]) == ("if_freed", [], 8192)


def test_people_see_the_groups_in_order_and_who_holds_the_memory(world: World) -> None:
    from rich.console import Console

    console = Console(width=250)
    with console.capture() as captured:
        console.print(models.run(world, taken(machine(1, 44.4), TRAINING, DESKTOP)).text())
    text = captured.get()
    assert re.search(r"Runs now\n.*\ntiny +.*\n\nWould run if memory were freed\n.*\nopenhands-lm-32b", text)
    assert "once python (pid 77, 40.0 GiB), Xorg (pid 5, 1.0 GiB) let go of memory" in text


@pytest.mark.parametrize(
    "inventory",
    [
        pytest.param(machine(ram=16), id="no GPU"),
        pytest.param(inventory_on("RTX-3060"), id="a small one"),
        pytest.param(inventory_on("8xRTX-PRO-6000"), id="eight with a long name"),
    ],
)
def test_each_model_takes_a_line_of_a_narrow_terminal(world: World, inventory: Inventory) -> None:
    from rich.console import Console

    everything = replace(world, profiles=(catalogue.shipped(),), engines=ENGINES)
    console = Console(width=80)
    with console.capture() as captured:
        console.print(models.run(everything, inventory).text())
    lines = [line for line in captured.get().splitlines() if line.strip()]
    groups = sum(line.startswith(("Runs now", "Does not fit")) for line in lines)
    # Beside each group's heading stand the names of its columns.
    assert len(lines) == len(catalogue.paths(everything.profiles)) + 2 * groups
    assert groups


def test_what_does_not_fit_tells_what_it_would_need(world: World) -> None:
    from rich.console import Console

    console = Console(width=80)
    with console.capture() as captured:
        console.print(models.run(world, inventory_on("RTX-3060")).text())
    assert re.search(r"FITS ON *\nopenhands-lm-32b +32.8 B +RTX-5090 *$", captured.get(), re.MULTILINE)


# -- show --


def test_show_tells_all_about_a_model_and_its_plan(world: World) -> None:
    told: Any = models_show.run(world, "openhands-lm-32b", machine(2, 79.25)).json()
    assert (told["context"], told["context_max"], told["tool_parser"]) == (
        32_768,
        131_072,
        {"vllm": "hermes", "sglang": "hermes"},
    )
    assert told["variants"][1] == {
        "name": "fp8",
        "precision": "fp8",
        "weights": "all-hands/openhands-lm-32b-v0.1",
        "size": None,
        "compute": "8.0",
        "args": {"vllm": ["--quantization", "fp8_per_tensor"], "sglang": ["--quantization", "fp8"]},
    }
    assert (told["plan"]["fits"], told["plan"]["context"]) == (True, 131_072)
    json.dumps(told)


def test_show_tells_of_a_model_that_does_not_fit_too(world: World) -> None:
    shown = models_show.run(world, "openhands-lm-32b", machine(ram=16))
    told: Any = shown.json()
    assert (shown.exit_code, told["plan"]["fits"]) == (0, False)


# -- check --


def test_check_tells_that_a_file_is_sound(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(OPENHANDS)
    assert models_check.run(path).json() == {
        "file": str(path),
        "sound": True,
        "name": "mine",
        "variants": ["bf16", "fp8", "mxfp4"],
    }


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("mine.toml", b'titel = "x"', "unknown key 'titel'", id="a misspelt key"),
        pytest.param("mine.toml", b"\xff", "is not a text in UTF-8", id="no text"),
        pytest.param("Mine.toml", OPENHANDS.encode(), "the name 'Mine' may hold only small letters", id="a name in capitals"),
        pytest.param("other.toml", None, "No such file", id="no file"),
    ],
)
def test_check_tells_what_is_wrong(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(LauncherError, match=message):
        models_check.run(tmp_path / name)


# -- add --

FILES = {
    **{name: text.encode() for name, text in coder().items()},
    "model-1.safetensors": safetensors(3_000),
    "model-2.safetensors": safetensors(2_000),
}


def test_a_profile_that_was_added_says_what_was_derived_and_is_found_by_name_and_repository(
    world: World, tmp_path: Path
) -> None:
    with Hub({"org/Coder-7B": Repository(FILES)}) as server:
        env = hub_env(tmp_path, server.url)
        world = replace(
            world,
            facts=lambda weights: model_facts.read(weights, home=world.home, progress=Silent(), env=env),
            profiles=(*world.profiles, world.home.profiles),
        )
        derived = derive.derive(world.facts(HubWeights("org/Coder-7B")))
        added = models_add.run(world, "org/Coder-7B")
    assert (added.name, added.path, added.hides) == ("coder-7b", world.home.profiles / "coder-7b.toml", False)
    assert added.path.read_text().startswith(f"#:schema {catalogue.shipped() / 'schema.json'}\n")
    for word in ("coder-7b", "org/coder-7b"):
        assert find(world, word) == replace(derived, origin="", notes=derived.notes[1:])
    with pytest.raises(LauncherError, match="the profile coder-7b serves org/Coder-7B already"):
        models_add.run(world, "org/Coder-7B")


def with_recipes(world: World, site: RecipeSite, hub: Hub, folder: Path) -> World:
    env = hub_env(folder, hub.url)
    return replace(
        world,
        facts=lambda weights: model_facts.read(weights, home=world.home, progress=Silent(), env=env),
        recipe=lambda repo: recipe_site.fetch(repo, env={recipe_site.ADDRESS: site.url}),
        profiles=(*world.profiles, world.home.profiles),
    )


QUANTISED = {
    **FILES,
    "config.json": coder(quantization_config={"quant_method": "fp8", "weight_block_size": [128, 128]})["config.json"].encode(),
}
RECIPE = recipe(
    "org/Coder-7B",
    features={"tool_calling": TOOLS, "reasoning": THOUGHTS},
    variants={
        "default": {"precision": "bf16"},
        "fp8": {"precision": "fp8", "model_id": "org/Coder-7B-FP8"},
        "gone": {"precision": "int4", "model_id": "org/Coder-7B-AWQ"},
    },
    hardware_overrides={"blackwell": {"extra_args": ["--moe-backend", "deep_gemm"]}},
)


def test_a_recipe_is_taken_where_there_is_one_and_plans_are_made_with_it(world: World, tmp_path: Path) -> None:
    repositories = {"org/Coder-7B": Repository(FILES), "org/Coder-7B-FP8": Repository(QUANTISED)}
    with RecipeSite.of(RECIPE) as site, Hub(repositories) as hub:
        world = with_recipes(world, site, hub, tmp_path)
        added = models_add.run(world, "org/Coder-7B")
        assert added.recipe == f"{site.url}/org/Coder-7B.json"
        assert added.recipe in str(added.text())
    made = catalogue.read(added.path)
    assert (made.tool_parser["vllm"], made.reasoning_parser["vllm"], made.min_version) == (
        "qwen3_coder",
        "qwen3",
        {"vllm": "0.11.0"},
    )
    size = len(FILES["model-1.safetensors"]) + len(FILES["model-2.safetensors"])
    assert [(each.name, each.size) for each in made.variants] == [(name, size) for name in ("bf16", "fp8", "mxfp4")]
    assert "variant gone (the hub has no repository org/Coder-7B-AWQ, or not for you (asked with no token))" in made.notes[0]
    for compute, is_there in (((10, 0), True), ((9, 0), False)):
        plan = decide(
            replace(world, engines=ENGINES), ServerSpec("coder-7b", variant="fp8"), machine(1, 79.18, compute=compute)
        )
        assert isinstance(plan, Plan)
        assert plan.variant.quantisation is not None
        argv = vllm.command(plan, Site(Path("python"), Path("weights"), "127.0.0.1", 8400, "")).argv
        assert ("--moe-backend" in argv) is is_there


@pytest.mark.parametrize(
    ("site", "with_recipe", "reason"),
    [
        pytest.param(RecipeSite.of(RECIPE), False, "it was not asked for", id="it is not wanted"),
        pytest.param(RecipeSite.of(), None, "has none for org/Coder-7B", id="there is none"),
        pytest.param(RecipeSite.of(RECIPE, status=500), None, "cannot be asked", id="its site is broken"),
        pytest.param(
            RecipeSite.of({**RECIPE, "meta": {"tasks": ["omni"]}}), None, "writes text", id="it is for something else"
        ),
    ],
)
def test_without_a_recipe_all_is_derived_and_it_says_why(
    world: World, tmp_path: Path, *, site: RecipeSite, with_recipe: bool | None, reason: str
) -> None:
    with site, Hub({"org/Coder-7B": Repository(FILES)}) as hub:
        added = models_add.run(with_recipes(world, site, hub, tmp_path), "org/Coder-7B", with_recipe=with_recipe)
    assert (added.recipe, catalogue.read(added.path).source) == ("", "config.json of org/Coder-7B")
    assert reason in added.reason
    assert f"No recipe of vLLM's was used: {added.reason}." in str(added.text())


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        pytest.param("org/Coder-7B", "there is no recipe to use: .* has none for org/Coder-7B", id="a repository without one"),
        pytest.param("./mine", "there is no recipe to use: there are none for folders", id="a folder"),
    ],
)
def test_a_recipe_that_was_asked_for_must_be_there(world: World, tmp_path: Path, reference: str, message: str) -> None:
    tiny_folder(world.cwd / "mine")
    with RecipeSite.of() as site, Hub({"org/Coder-7B": Repository(FILES)}) as hub:
        world = with_recipes(world, site, hub, tmp_path)
        with pytest.raises(LauncherError, match=message):
            models_add.run(world, reference, with_recipe=True)
    assert not world.home.profiles.exists()


def test_a_folder_can_be_added_once(world: World) -> None:
    folder = tiny_folder(world.cwd / "mine")
    assert models_add.run(world, "./mine").name == "mine"
    with pytest.raises(LauncherError, match=r"there is a profile .*mine.toml already"):
        models_add.run(world, "./mine")
    plan = decide(replace(world, profiles=(world.home.profiles,)), ServerSpec("mine"), world.inventory())
    assert isinstance(plan, Plan)
    assert plan.memory.weights == (folder / "model.safetensors").stat().st_size + TINY_POSITIONS


def test_a_profile_of_the_users_hides_the_shipped_one(world: World) -> None:
    tiny_folder(world.cwd / "openhands-lm-32b")
    assert models_add.run(world, "./openhands-lm-32b").hides
    both = (*world.profiles, world.home.profiles)
    assert catalogue.load(both, "openhands-lm-32b").title == "openhands-lm-32b"
    assert catalogue.load_all(both)["openhands-lm-32b"].variants[0].name == "bf16"
    assert sorted(catalogue.paths(both)) == ["openhands-lm-32b", "tiny"]


def test_what_is_no_repository_cannot_be_added(world: World) -> None:
    with pytest.raises(LauncherError, match="'tiny' is no repository"):
        models_add.run(world, "tiny")
    assert not world.home.root.exists()


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, id="a table in a table"),
        pytest.param({"eos_token_id": [151645, 151643], "layer_types": ["full_attention"] * 28}, id="lists"),
        pytest.param({"vision_config": {"hidden_size": 1024, "image": {"size": None}}}, id="nulls inside"),
        pytest.param({"id2label": {"0": "a b", "1.5": 'with "quotes" and \\ and \n'}}, id="odd keys and texts"),
        pytest.param({"initializer_range": 1e-05, "bos_token_id": 2**40}, id="small and large numbers"),
        pytest.param({"mixed": [1, "a", {"b": [2.5, None]}]}, id="a list of everything"),
    ],
)
def test_whatever_stands_in_a_config_comes_through_the_file_unchanged(world: World, more: dict[str, Any]) -> None:
    tiny_folder(world.cwd / "mine", **more)
    derived = find(world, "./mine")
    added = models_add.run(world, "./mine")
    again = profile.parse(added.path.read_text(), name="mine", where="mine.toml")
    assert again == replace(derived, origin="", notes=derived.notes[1:])


def test_a_profile_that_is_half_written_hides_no_other(tmp_path: Path) -> None:
    world = little_world(tmp_path)
    (world.profiles[0] / "mine.toml").write_text("title = 1\n")
    rows = models.run(world, machine(ram=16)).rows
    assert [row.profile.name for row in rows] == ["tiny"]
    assert isinstance(world.progress, Told)
    assert any("left out:" in said and "mine.toml" in said for said in world.progress.said)
