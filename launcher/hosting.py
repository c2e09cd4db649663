"""One process for a home: the gateway in the loop of this thread, the supervisor in another one."""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress

from launcher import keys, nvml, remotes, routing, store, swap
from launcher.errors import LauncherError
from launcher.gateway.gateway import Gateway
from launcher.gateway.metrics import Reading
from launcher.gateway.table import Key, Route, Table
from launcher.gpu import Gpu, Load
from launcher.lifecycle import Policy, Use
from launcher.listeners import Listeners
from launcher.server import Server, Wanted
from launcher.supervisor import Supervisor
from launcher.world import World

_TURN = 0.25


class Host:
    """Listens where it is wished, routes as the supervisor says, and tells it who was asked."""

    def __init__(self, world: World, *, policy: Policy | None = None, say: Callable[[str], None] = lambda _: None) -> None:
        self.supervisor = Supervisor(world, policy=policy, say=say, gate=self)
        self._gateway = Gateway(wake=self.supervisor.wake, gpus=self._gpus, log=world.home.access_log)
        self._listeners = Listeners(world.home, self._gateway, say)
        self._keys_seen = 0
        self._say = say
        self._faults: tuple[str, ...] = ()

    @property
    def world(self) -> World:
        return self.supervisor.world

    @world.setter
    def world(self, world: World) -> None:
        self.supervisor.world = world

    def run(self, ended: Callable[[], bool], *, stay: bool = False) -> None:
        """As Supervisor.run, with the gateway before it."""
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._run(ended, stay=stay))

    async def _run(self, ended: Callable[[], bool], *, stay: bool) -> None:
        await self._gateway.open()
        work = threading.Thread(target=self.supervisor.run, args=(ended,), kwargs={"stay": stay}, daemon=True)
        work.start()
        while work.is_alive():
            if await self._listeners.attend(stay=stay):
                self._publish()
            self._look_at_keys()
            await asyncio.sleep(_TURN)
        await self._gateway.close(grace=0.5)

    def _look_at_keys(self) -> None:
        """A key that was added opens, and one that was removed shuts, at once; and so do names and providers' models."""
        home = self.world.home
        now = sum(map(store.changed, (home.key.parent, home.named_keys, home.state, home.llm)))
        if now != self._keys_seen:
            self._keys_seen = now
            self._publish()

    def _publish(self) -> None:
        # It looks at records, which the loop has no time for.
        threading.Thread(target=self.supervisor.publish, daemon=True).start()

    # -- what the supervisor sees of the gateway --

    def publish(self, wanted: Sequence[Wanted], servers: Sequence[Server], engine_keys: Mapping[str, str]) -> None:
        """Route by these from now on."""
        taken = tuple(Key.of(key.name, key.text) for key in keys.listed(self.world.home))
        aliases = swap.aliases({want.name: want for want in wanted}, servers, store.aliases(self.world.home))
        routes, listeners = routing.routes(wanted, servers, engine_keys), self._listeners
        origins = listeners.exposure.origins
        far, fallbacks = self._far(wanted, {route.name for route in routes})
        self._gateway.publish(
            Table.of((*routes, *far), keys=taken, fallbacks=fallbacks, aliases=aliases, hosts=listeners.hosts, origins=origins)
        )

    def _far(self, wanted: Sequence[Wanted], here: AbstractSet[str]) -> tuple[tuple[Route, ...], tuple[Route, ...]]:
        """Providers' models: those that are served, and those that stand in. What is wrong with one is said once."""
        served, damaged = remotes.served(self.world.home)
        fallbacks = {want.fallback for want in wanted if want.fallback}
        routes, faults = remotes.routes(self.world, sorted({*served, *fallbacks}), served)
        for fault in (*damaged, *faults):
            if fault not in self._faults:
                self._say(fault)
        self._faults = (*damaged, *faults)
        far = tuple(route for route in routes if route.name in served and route.name not in here)
        return far, tuple(route for route in routes if route.name in fallbacks)

    def use(self, server: Server, key: str) -> Use:
        """What was asked of a server through the gateway."""
        usage = self._gateway.usage()
        of_route = usage.routes.get(server.name)
        offset = time.time() - time.monotonic()
        busy = not usage.drained(routing.backend(server, key))
        if of_route is None:
            return Use(busy=busy)
        return Use(
            busy=busy,
            waiting=of_route.waiting,
            asked=of_route.asked + offset if of_route.asked else 0.0,
            # Of several, which one it was that worked nobody counts: each is asked by itself.
            worked=of_route.succeeded + offset if of_route.succeeded and (server.spec.replicas or 1) == 1 else 0.0,
            failed=of_route.failed,
        )

    def _gpus(self) -> Sequence[Reading]:
        try:
            inventory = self.world.inventory()
        except LauncherError:
            return ()
        loads: Mapping[int, Load] = {}
        if inventory.driver:
            with suppress(LauncherError):
                loads = nvml.loads({gpu.whole for gpu in inventory.gpus})
        return tuple(_reading(gpu, loads.get(gpu.whole, Load())) for gpu in inventory.gpus)


def _reading(gpu: Gpu, load: Load) -> Reading:
    """A slice is as warm as its card; the card's watts and work are not its own, and would be counted with each slice."""
    return Reading(
        index=gpu.index,
        uuid=gpu.uuid,
        name=gpu.name,
        used=gpu.total - gpu.free,
        total=gpu.total,
        utilisation=None if gpu.slice else load.utilisation,
        temperature=load.temperature,
        power=None if gpu.slice else load.power,
    )
