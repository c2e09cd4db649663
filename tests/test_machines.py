import json
from dataclasses import replace
from pathlib import Path

import pytest

from launcher import machines
from launcher.errors import LauncherError
from launcher.gpu import GIB, Gpu, GpuProcess, Inventory, NvLinks
from launcher.machines import CARDS, from_json, inventory_on, to_json

NAMES = {
    "2xA100-80GB": (2, "NVIDIA A100-SXM4-80GB", 79.25, (8, 0)),
    "RTX-4090": (1, "NVIDIA GeForce RTX 4090", 23.64, (8, 9)),
    "rtx4090": (1, "NVIDIA GeForce RTX 4090", 23.64, (8, 9)),
    "4090": (1, "NVIDIA GeForce RTX 4090", 23.64, (8, 9)),
    "NVIDIA GeForce RTX 4090": (1, "NVIDIA GeForce RTX 4090", 23.64, (8, 9)),
    "2x3090": (2, "NVIDIA GeForce RTX 3090", 23.58, (8, 6)),
    "8xH100-80GB": (8, "NVIDIA H100 80GB HBM3", 79.18, (9, 0)),
    "h100": (1, "NVIDIA H100 80GB HBM3", 79.18, (9, 0)),
    "NVIDIA H100 80GB HBM3": (1, "NVIDIA H100 80GB HBM3", 79.18, (9, 0)),
    "4 x L4": (4, "NVIDIA L4", 22.03, (8, 9)),
    "4X l40s": (4, "NVIDIA L40S", 44.4, (8, 9)),
    "rtx pro 6000": (1, "NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 94.97, (12, 0)),
    "RTX 6000 Pro": (1, "NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 94.97, (12, 0)),
    "V100": (1, "Tesla V100-SXM2-16GB", 15.77, (7, 0)),
    "2xMY-CARD:48GiB": (2, "MY-CARD", 48, (8, 0)),
    "2xMY-CARD:47.5GB": (2, "MY-CARD", 47.5, (8, 0)),
    "4090:48GiB": (1, "NVIDIA GeForce RTX 4090", 48, (8, 9)),
}


@pytest.mark.parametrize(("text", "seen"), NAMES.items(), ids=NAMES.keys())
def test_a_machine_by_its_cards(text: str, seen: tuple[int, str, float, tuple[int, int]]) -> None:
    count, name, total, compute = seen
    inventory = inventory_on(text)
    free = int((total - 0.6) * GIB)
    assert inventory.gpus == tuple(Gpu(index, str(index), name, int(total * GIB), free, compute) for index in range(count))
    assert inventory.ram.total == 2 * sum(gpu.total for gpu in inventory.gpus)
    assert inventory.ram.available == inventory.ram.total
    assert inventory.cpu.arch == "x86_64"


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        pytest.param("4x(8xH100-80GB)", 4, id="four machines"),
        pytest.param(" 2 X ( 2 x L4 ) ", 2, id="with spaces"),
        pytest.param("1x(RTX-4090)", 1, id="one is a machine as any other"),
    ],
)
def test_a_cluster_is_like_machines_whose_gpus_are_counted_through(text: str, nodes: int) -> None:
    cluster = inventory_on(text)
    one = inventory_on(text[text.index("(") + 1 : text.rindex(")")])
    assert [gpu.index for gpu in cluster.gpus] == list(range(nodes * len(one.gpus)))
    assert [gpu.node for gpu in cluster.gpus] == [node for node in range(nodes) for _ in one.gpus]
    assert {replace(gpu, index=0, uuid="", node=0) for gpu in cluster.gpus} == {replace(one.gpus[0], index=0, uuid="")}
    assert cluster.ram.total == nodes * one.ram.total
    assert from_json(to_json(cluster)) == cluster


def test_unified_memory_is_there_only_once() -> None:
    inventory = inventory_on("GB10")
    assert inventory.gpus[0].total == inventory.ram.total == int(119.63 * GIB)
    assert inventory.gpus[0].free == inventory.ram.available < 113 * GIB
    assert inventory.cpu.arch == "aarch64"


@pytest.mark.parametrize("name", CARDS)
def test_every_known_card_is_found_by_its_name(name: str) -> None:
    assert {gpu.name for gpu in inventory_on(f"2x{name.lower()}").gpus} == {CARDS[name].name}


NONSENSE = {
    "": ("cannot understand the machine ''", "2xA100-80GB"),
    "2x": ("cannot understand the machine '2x'", "2xA100-80GB"),
    "2xA100-80GB+1xT4:": ("cannot understand the machine '2xA100-80GB+1xT4:'", "2xA100-80GB"),
    "h1000": ("unknown GPU 'h1000'", "did you mean H100-80GB?"),
    "RTX-4O90": ("unknown GPU 'RTX-4O90'", "did you mean RTX-4090?"),
    "banana": ("unknown GPU 'banana'", "Known: T4, V100-16GB"),
    "MI300X": ("unknown GPU 'MI300X'", "Known: T4"),
    "2xA100": ("A100 comes in several sizes", "say which: A100-40GB or A100-80GB"),
    "4060ti": ("4060ti comes in several sizes", "RTX-4060Ti-8GB or RTX-4060Ti-16GB"),
    "0xH100": ("a machine has 1 to 16 GPUs, not 0", "2xA100-80GB"),
    "17xH100": ("a machine has 1 to 16 GPUs, not 17", "2xA100-80GB"),
    "0x(2xL4)": ("a cluster has 1 to 64 machines, not 0", "four machines as '4x(8xH100-80GB)'"),
    "65x(2xL4)": ("a cluster has 1 to 64 machines, not 65", "four machines as '4x(8xH100-80GB)'"),
    "2x(2x(2xL4))": ("a cluster is made of machines, not of clusters", "four machines as '4x(8xH100-80GB)'"),
    "mine:0GiB": ("a GPU has 1 to 1024 GiB, not 0", "48GiB"),
    "mine:49140GiB": ("a GPU has 1 to 1024 GiB, not 49140", "48GiB"),
    "mine:48": ("cannot understand the machine 'mine:48'", "48GiB"),
    "nowhere.json": ("cannot read the machine nowhere.json: No such file or directory", "gpus --json"),
}


@pytest.mark.parametrize(("text", "told"), NONSENSE.items(), ids=[text or "nothing" for text in NONSENSE])
def test_a_machine_that_cannot_be_understood(text: str, told: tuple[str, str]) -> None:
    with pytest.raises(LauncherError) as fault:
        inventory_on(text)
    assert fault.value.message == told[0]
    assert told[1] in fault.value.hint


def full() -> Inventory:
    inventory = inventory_on("2xRTX-4090")
    held = replace(inventory.gpus[0], processes=(GpuProcess(7, "Xorg", 12), GpuProcess(8, "", 0)), nvlinks=NvLinks(4, (1,)))
    slice_ = replace(inventory.gpus[1], uuid="MIG-1", card=1)
    return replace(inventory, gpus=(held, slice_), driver="580.95.05", unsupported=("Radeon",), cuda="13.0")


def test_json_says_all_of_the_inventory_in_plain_values() -> None:
    assert json.loads(json.dumps(to_json(full()))) == to_json(full())
    assert to_json(full())["gpus"][0] == {
        "index": 0,
        "uuid": "0",
        "name": "NVIDIA GeForce RTX 4090",
        "total": int(23.64 * GIB),
        "free": int(23.04 * GIB),
        "compute": "8.9",
        "processes": [{"pid": 7, "name": "Xorg", "used": 12}, {"pid": 8, "name": "", "used": 0}],
        "nvlinks": {"active": 4, "peers": [1], "switched": False},
        "card": None,
        "unified": False,
        "node": 0,
    }


def test_json_comes_back_as_the_same_inventory(tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    path.write_text(json.dumps(to_json(full())), encoding="utf-8")
    assert inventory_on(str(path)) == full()


def test_what_no_plan_is_made_from_may_be_left_out() -> None:
    whole = to_json(full())
    del whole["cuda"]
    for gpu in whole["gpus"]:
        for key in ("nvlinks", "card", "unified"):
            del gpu[key]
    bare = tuple(replace(gpu, nvlinks=None, card=None) for gpu in full().gpus)
    assert from_json(whole) == replace(full(), gpus=bare, cuda="")


BROKEN = {
    "not an object": ("[]", "it is not an object"),
    "not JSON": ("{", "is not JSON: "),
    "not text": ("\udcff", "is not JSON: "),
    "an error instead": ('{"error": {}}', "unknown key error"),
}


@pytest.mark.parametrize(("text", "told"), BROKEN.values(), ids=BROKEN.keys())
def test_a_file_that_is_no_inventory(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "machine.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(LauncherError) as fault:
        inventory_on(str(path))
    assert told in fault.value.message
    assert str(path) in fault.value.message
    assert "gpus --json" in fault.value.hint


FAULTS: dict[str, tuple[list[str | int], object, str]] = {
    "a key that is missing": (["ram"], None, "ram is missing"),
    "a key that is misspelt": (["drivr"], "", "unknown key drivr (did you mean driver?)"),
    "a key of a GPU that is misspelt": (["gpus", 1, "fre"], 1, "unknown key gpus[1].fre (did you mean free?)"),
    "a GPU that is no object": (["gpus", 1], 3, "gpus[1] is not an object"),
    "a list that is none": (["gpus"], {}, "gpus is not a list"),
    "an object that is none": (["cpu"], "fast", "cpu is not an object"),
    "a size that is text": (["ram", "total"], "64", "ram.total is not a whole number from 1 up"),
    "a size that is true": (["ram", "total"], True, "ram.total is not a whole number from 1 up"),
    "a size below nothing": (["gpus", 0, "free"], -1, "gpus[0].free is not a whole number from 0 up"),
    "more free than there is": (["gpus", 0, "free"], 2**50, "GPU 0 has more free than its total"),
    "a compute capability that is none": (["gpus", 0, "compute"], [8, 9], "gpus[0].compute is not a version like 8.9"),
    "a process without a size": (["gpus", 0, "processes"], [{"pid": 1, "name": ""}], "gpus[0].processes[0].used is missing"),
    "a name that is a number": (["unsupported"], [1], "unsupported is not a list of texts"),
    "a version of CUDA that is a number": (["cuda"], 13.0, "cuda is not a text"),
    "links that are a number": (["gpus", 0, "nvlinks"], 4, "gpus[0].nvlinks is not an object"),
    "links without an end": (["gpus", 0, "nvlinks", "peers"], None, "gpus[0].nvlinks.peers is missing"),
    "links to a name": (["gpus", 0, "nvlinks", "peers"], ["GPU-1"], "gpus[0].nvlinks.peers is not a list of whole numbers"),
    "a key of links that is misspelt": (
        ["gpus", 0, "nvlinks", "ative"],
        4,
        "unknown key gpus[0].nvlinks.ative (did you mean active?)",
    ),
    "a card that is a name": (["gpus", 1, "card"], "1", "gpus[1].card is not a whole number from 0 up, or null"),
    "unified memory that is a number": (["gpus", 0, "unified"], 1, "gpus[0].unified is not true or false"),
    "two GPUs of one index": (["gpus", 1, "index"], 0, "index 0 is there twice"),
}


@pytest.mark.parametrize(("path", "value", "told"), FAULTS.values(), ids=FAULTS.keys())
def test_an_inventory_with_one_fault(path: list[str | int], value: object, told: str) -> None:
    with pytest.raises(LauncherError) as fault:
        from_json(changed(path, value))
    assert fault.value.message == f"the inventory is not an inventory: {told}"


def test_all_faults_are_told_at_once() -> None:
    broken = changed(["gpus", 0, "free"], -1) | {"cpu": 1, "extra": 2}
    with pytest.raises(LauncherError, match=r"free .*; cpu is not an object; unknown key extra"):
        from_json(broken)


def changed(path: list[str | int], value: object) -> dict[str, object]:
    """The JSON of a good inventory with `value` at `path`, None for nothing there."""
    whole = machines.to_json(full())
    place = whole
    for step in path[:-1]:
        place = place[step]  # type: ignore[index]  # a path goes through lists and objects alike
    if value is None:
        del place[path[-1]]  # type: ignore[arg-type]  # the same
    else:
        place[path[-1]] = value  # type: ignore[index]  # the same
    return whole
