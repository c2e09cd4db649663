import pytest

from launcher.gpu import GIB, Cpu, Gpu, GpuProcess, Inventory, Ram

MINE = GpuProcess(pid=10, name="VLLM::EngineCore", used=20 * GIB)
OTHER = GpuProcess(pid=11, name="Xorg", used=2 * GIB)


def gpu(index: int, free: int, *processes: GpuProcess) -> Gpu:
    return Gpu(index, f"GPU-{index}", "NVIDIA A100", 80 * GIB, free, (8, 0), processes)


def machine(*gpus: Gpu, available: int = 100 * GIB) -> Inventory:
    return Inventory(gpus, Cpu("a CPU", 8, "x86_64"), Ram(128 * GIB, available), "580.95.05", ("AMD GPU",))


THREE = machine(gpu(0, 80 * GIB), gpu(1, 80 * GIB), gpu(4, 80 * GIB))

ONLY = {
    "some": ({0, 4}, [0, 4]),
    "none": (set(), []),
    "an index that is not there": ({2}, []),
    "indexes are the driver's, not positions": ({1, 2, 3}, [1]),
}


@pytest.mark.parametrize(("wanted", "left"), ONLY.values(), ids=ONLY.keys())
def test_only(wanted: set[int], left: list[int]) -> None:
    assert THREE.only(wanted) == machine(*(gpu(index, 80 * GIB) for index in left))


WITHOUT = {
    "a process that holds memory gives it back": (
        machine(gpu(0, 58 * GIB, MINE, OTHER)),
        {10},
        0,
        machine(gpu(0, 78 * GIB, OTHER)),
    ),
    "on every GPU that it holds": (
        machine(gpu(0, 60 * GIB, MINE), gpu(1, 58 * GIB, MINE, OTHER)),
        {10},
        0,
        machine(gpu(0, 80 * GIB), gpu(1, 78 * GIB, OTHER)),
    ),
    "never more than there is": (machine(gpu(0, 70 * GIB, MINE)), {10}, 0, machine(gpu(0, 80 * GIB))),
    "a process that holds nothing changes nothing": (machine(gpu(0, 60 * GIB, MINE)), {99}, 0, machine(gpu(0, 60 * GIB, MINE))),
    "host memory comes back": (machine(), {10}, 8 * GIB, machine(available=108 * GIB)),
    "host memory, never more than there is": (machine(), {10}, 64 * GIB, machine(available=128 * GIB)),
}


@pytest.mark.parametrize(("before", "pids", "ram", "after"), WITHOUT.values(), ids=WITHOUT.keys())
def test_without(before: Inventory, pids: set[int], ram: int, after: Inventory) -> None:
    assert before.without(pids, ram) == after
