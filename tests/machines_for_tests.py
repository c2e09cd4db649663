"""Machines as values, for tables."""

from launcher.gpu import GIB, Cpu, Gpu, Inventory, Ram


def machine(
    count: int = 0,
    gib: float = 0.0,
    *,
    name: str = "GPU",
    compute: tuple[int, int] = (8, 0),
    held: float = 0.6,
    ram: float = 64.0,
) -> Inventory:
    """`count` like GPUs of `gib` GiB each, of which `held` GiB are taken; `ram` GiB of free host memory."""
    free = int((gib - held) * GIB)
    gpus = tuple(Gpu(index, f"GPU-{name}-{index}", name, int(gib * GIB), free, compute) for index in range(count))
    return Inventory(gpus=gpus, cpu=Cpu("cpu", 8, "x86_64"), ram=Ram(int(2 * ram * GIB), int(ram * GIB)))
