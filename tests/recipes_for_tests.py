"""Recipes made by hand in the format of scripts/build-recipes-api.mjs in github.com/vllm-project/recipes; their site."""

import json
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any, Self

from tests.on_loopback import on_loopback

REPO = "Org/Coder-7B"


def recipe(repo: str = REPO, **more: Any) -> dict[str, Any]:
    """The least that a recipe is, with `more` in place of its parts."""
    least = {
        "hf_id": repo,
        "meta": {"title": "Coder 7B", "provider": "Org", "description": "A coder", "tasks": ["text"]},
        "model": {
            "model_id": repo,
            "min_vllm_version": "0.11.0",
            "architecture": "dense",
            "parameter_count": "7B",
            "context_length": 32768,
            "base_args": [],
            "base_env": {},
            "install": {"pip": {"command": "uv pip install -U vllm"}},
        },
        "features": {},
        "opt_in_features": [],
        "variants": {"default": {"precision": "bf16", "vram_minimum_gb": 17, "description": "BF16"}},
        "hardware_overrides": {},
        "guide": "## Overview\n",
    }
    return {**least, **more}


def model(**more: Any) -> dict[str, Any]:
    """The part about the model, with `more` in it."""
    return {**recipe()["model"], **more}


def feature(*words: str) -> dict[str, Any]:
    return {"description": "what it does", "args": list(words)}


TOOLS = feature("--enable-auto-tool-choice", "--tool-call-parser", "qwen3_coder")
THOUGHTS = feature("--reasoning-parser", "qwen3")
DRAFTS = feature("--speculative-config", '{"method":"mtp","num_speculative_tokens":2}')


@dataclass
class Site:
    """Serves files while it is entered: texts by path. `wait` seconds before each answer; `status` to everything."""

    files: dict[str, str]
    wait: float = 0.0
    status: int = 200
    asked: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, *recipes: dict[str, Any], **more: Any) -> "Site":
        """As vLLM's people build it: a file a recipe, and an index of them all."""
        index = [{"hf_id": each["hf_id"], "json": f"/{each['hf_id']}.json"} for each in recipes]
        files = {f"/{each['hf_id']}.json": json.dumps(each, indent=2) for each in recipes}
        return cls({**files, "/models.json": json.dumps(index)}, **more)

    def __enter__(self) -> Self:
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                time.sleep(site.wait)
                # A proxy is asked for whole addresses.
                path = self.path.removeprefix("http://recipes.example").removeprefix("/mirror")
                text = site.files.get(path)
                body = (text or "").encode()
                self.send_response(404 if text is None else site.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class calls it so
                """Keep the tests' output clean."""

        self._open = on_loopback(Handler)
        self._port = self._open.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.__exit__(kind, error, trace)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"
