"""What the gateway answers itself: which models there are, whether it is well, metrics. aiohttp, behind the same port.

Requests come over a pair of sockets that no other process can reach, checked and rewritten as those to engines are.
"""

import asyncio
import importlib
import json
import socket
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from launcher.endpoint import Endpoint
from launcher.gateway import metrics
from launcher.gateway.links import Link
from launcher.gateway.metrics import Reading
from launcher.gateway.relay import merged
from launcher.gateway.switchboard import Switchboard
from launcher.gateway.table import Backend, Route, Table
from launcher.llm import LLMConfig

if TYPE_CHECKING:
    from aiohttp import ClientSession
    from aiohttp.web import AppRunner, Request, Response

# Seconds: an engine that tells no metrics by then tells none; figures of GPUs are no older.
_RELAY_TIME = 2.0
_FRESH = 5.0


class Pages:
    """The pages, each made from the table and the counts of its moment."""

    def __init__(self, board: Callable[[], Switchboard], gpus: Callable[[], Sequence[Reading]]) -> None:
        self._board = board
        self._gpus = gpus
        self._read: tuple[float, Sequence[Reading]] = (-_FRESH, ())
        self._runner: AppRunner | None = None
        self._session: ClientSession | None = None
        self._ready = asyncio.Event()

    async def open(self) -> None:
        """Get ready to answer; whoever asks meanwhile waits."""
        web = await asyncio.to_thread(importlib.import_module, "aiohttp.web")
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/v1/model/info", self._model_info)
        app.router.add_get("/health", self._health)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        self._ready.set()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def connect(self, new: Callable[[], Link]) -> Link:
        """A connection to the pages; raises OSError."""
        await self._ready.wait()
        server = self._runner.server if self._runner is not None else None
        if server is None:
            raise ConnectionRefusedError
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)  # noqa: FBT003 - socket's signature
        theirs.setblocking(False)  # noqa: FBT003 - the same
        await loop.connect_accepted_socket(server, theirs)
        _, link = await loop.create_unix_connection(new, sock=ours)
        return link

    async def _models(self, _: "Request") -> "Response":
        return _json(models(self._board().table))

    async def _model_info(self, _: "Request") -> "Response":
        return _json(model_info(self._board().table))

    async def _health(self, _: "Request") -> "Response":
        return _json({"status": "ok"})

    async def _metrics(self, _: "Request") -> "Response":
        from aiohttp.web import Response

        board = self._board()
        gpus, told = await asyncio.gather(self._gpu_readings(), self._told(board.table))
        text = metrics.exposition(board, gpus) + merged(told)
        return Response(text=text, headers={"Content-Type": metrics.CONTENT_TYPE})

    async def _gpu_readings(self) -> Sequence[Reading]:
        """In a thread: a driver may take its time."""
        at, readings = self._read
        if time.monotonic() - at >= _FRESH:
            readings = await asyncio.get_running_loop().run_in_executor(None, self._gpus)
            self._read = (time.monotonic(), readings)
        return readings

    async def _told(self, table: Table) -> list[tuple[str, str, str]]:
        """What each engine that runs tells of itself, with its model's name and, of several, its address.

        Nothing of one that does not answer in time.
        """
        from aiohttp import ClientError, ClientSession, ClientTimeout

        if self._session is None:
            self._session = ClientSession(timeout=ClientTimeout(total=_RELAY_TIME))
        session = self._session

        async def ask(route: Route, backend: Backend) -> tuple[str, str, str]:
            place = f"{backend.host}:{backend.port}"
            replica = place if len(route.backends) > 1 else ""
            try:
                async with session.get(f"http://{place}/metrics", headers={"Authorization": f"Bearer {backend.key}"}) as answer:
                    return route.name, replica, await answer.text() if answer.status == 200 else ""  # noqa: PLR2004 - the status
            except (ClientError, TimeoutError, OSError, UnicodeDecodeError):
                return route.name, replica, ""

        asked = [
            ask(route, backend)
            for route in table.routes.values()
            if route.state in {"ready", "held"}
            for backend in route.backends
            if isinstance(backend, Backend)
        ]
        return [told for told in await asyncio.gather(*asked) if told[2]]


def models(table: Table) -> dict[str, object]:
    """All that can be served, in OpenAI's form, with the state and the context as engines tell it; aliases come last."""
    names = dict.fromkeys([*table.routes, *table.aliases])
    return {"object": "list", "data": [_model(name, route) for name in names if (route := table.route(name)) is not None]}


def model_info(table: Table) -> dict[str, object]:
    """The same as LiteLLM's proxy tells it, for clients that ask one (litellm/proxy/proxy_server.py: model_info_v1)."""
    names = dict.fromkeys([*table.routes, *table.aliases])
    return {"data": [_litellm(name, route) for name in names if (route := table.route(name)) is not None]}


def _model(name: str, route: Route) -> dict[str, object]:
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": route.engine or "launcher",
        "root": route.name,
        "max_model_len": route.context or None,
        "state": route.state,
        "detail": route.detail or None,
        "fallback": route.fallback or None,
    }


def _litellm(name: str, route: Route) -> dict[str, object]:
    told: dict[str, object] = {
        "id": name,
        "mode": "chat",
        "litellm_provider": "openai",
        "supports_function_calling": route.native_tool_calling,
        "supports_tool_choice": route.native_tool_calling,
        "supports_system_messages": True,
    }
    if route.state == "remote":
        limits = {"max_tokens": route.output, "max_input_tokens": route.context, "max_output_tokens": route.output}
        told |= {name: tokens for name, tokens in limits.items() if tokens}
    else:
        told |= {"input_cost_per_token": 0.0, "output_cost_per_token": 0.0}
    if route.context and route.state != "remote":
        endpoint = Endpoint(model=name, base_url="", api_key="", context=route.context)
        window = LLMConfig.of(endpoint, native_tool_calling=route.native_tool_calling)
        told |= {
            "max_tokens": window.max_output_tokens,
            "max_input_tokens": window.max_input_tokens,
            "max_output_tokens": window.max_output_tokens,
        }
    return {"model_name": name, "litellm_params": {"model": f"openai/{name}"}, "model_info": told}


def _json(value: object) -> "Response":
    from aiohttp.web import Response

    return Response(text=json.dumps(value), content_type="application/json")
