"""One process for a home: the gateway in the loop of this thread, the supervisor in another one."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from launcher import keys, ports, routing, store, swap
from launcher.errors import LauncherError
from launcher.gateway.gateway import Gateway
from launcher.gateway.metrics import Reading
from launcher.gateway.table import Key, Table
from launcher.lifecycle import Policy, Use
from launcher.server import Server, Wanted
from launcher.supervisor import Supervisor
from launcher.world import World

_TURN = 0.25
# How often an address that another program has is tried again (seconds).
_AGAIN = 1.0


class Host:
    """Listens where it is wished, routes as the supervisor says, and tells it who was asked."""

    def __init__(self, world: World, *, policy: Policy | None = None, say: Callable[[str], None] = lambda _: None) -> None:
        self._say = say
        self.supervisor = Supervisor(world, policy=policy, say=say, gate=self)
        self._gateway = Gateway(wake=self.supervisor.wake, gpus=self._gpus, log=world.home.access_log)
        self._port = 0
        self._tried = 0.0
        self._keys_seen = 0

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
            await self._listen(stay=stay)
            self._look_at_keys()
            await asyncio.sleep(_TURN)
        await self._gateway.close(grace=0.5)

    async def _listen(self, *, stay: bool) -> None:
        """See to it that the address is the one that was wished; one that is to stay takes the usual one where none was."""
        wished = store.port(self.world.home)
        if wished is None and stay:
            wished = ports.FIRST
            store.keep_port(self.world.home, wished)
        if wished is None or wished == self._port or time.monotonic() - self._tried < _AGAIN:
            return
        self._tried = time.monotonic()
        try:
            listening = _bound(wished)
        except OSError as error:
            told = f"port {wished} is in use by {ports.holder(wished) or error.strerror}"
            store.keep_listening(self.world.home, 0, told)
            self._say(told)
            return
        await self._gateway.listen([listening])
        self._port, self._tried = wished, 0.0
        store.keep_listening(self.world.home, wished, "")
        self._say(f"the gateway listens on {ports.LOOPBACK}:{wished}")

    def _look_at_keys(self) -> None:
        """A key that was added opens, and one that was removed shuts, at once; and so do other names of models."""
        home = self.world.home
        now = sum(map(store.changed, (home.key.parent, home.named_keys, home.state)))
        if now != self._keys_seen:
            self._keys_seen = now
            threading.Thread(target=self.supervisor.publish, daemon=True).start()

    # -- what the supervisor sees of the gateway --

    def publish(self, wanted: Sequence[Wanted], servers: Sequence[Server], engine_keys: Mapping[str, str]) -> None:
        """Route by these from now on."""
        taken = tuple(Key.of(key.name, key.text) for key in keys.listed(self.world.home))
        aliases = swap.aliases({want.name: want for want in wanted}, servers, store.aliases(self.world.home))
        self._gateway.publish(Table.of(routing.routes(wanted, servers, engine_keys), keys=taken, aliases=aliases))

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
            worked=of_route.succeeded + offset if of_route.succeeded else 0.0,
            failed=of_route.failed,
        )

    def _gpus(self) -> Sequence[Reading]:
        try:
            inventory = self.world.inventory()
        except LauncherError:
            return ()
        return tuple(Reading(gpu.index, gpu.uuid, gpu.name, gpu.total - gpu.free, gpu.total) for gpu in inventory.gpus)


def _bound(port: int) -> socket.socket:
    """A socket on loopback's port; raises OSError where another program listens."""
    if not ports.is_free(port):
        raise OSError(None, "another program")
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((ports.LOOPBACK, port))
    except OSError:
        made.close()
        raise
    return made
