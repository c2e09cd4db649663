"""Containers on this machine, by docker's own program: which there are, and a question from inside one."""

import json
import shutil
import subprocess
from collections.abc import Mapping

from launcher.errors import LauncherError
from launcher.probe import ANSWER_TOKENS, PATIENCE, QUESTION

_LISTS = 10.0


def of_agent(agent: str, env: Mapping[str, str]) -> str | None:
    """A running container that has the agent's name in its own or in its image's; None without one, or without docker."""
    docker = shutil.which("docker", path=env.get("PATH"))
    if docker is None:
        return None
    words = [docker, "ps", "--format", "{{.Names}}\t{{.Image}}"]
    try:
        done = subprocess.run(words, env=dict(env), capture_output=True, text=True, timeout=_LISTS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return next((line.partition("\t")[0] for line in done.stdout.splitlines() if agent in line.lower()), None)


def ask(container: str, base_url: str, api_key: str, model: str, env: Mapping[str, str]) -> str:
    """A model's words as they come to a program in a container; raises LauncherError where none do.

    curl reads the key on its stdin, so that it stands in no process' arguments.
    """
    docker = shutil.which("docker", path=env.get("PATH")) or "docker"
    words = [docker, "exec", "--interactive", container, "curl", "--silent", "--show-error", "--config", "-"]
    try:
        done = subprocess.run(
            words,
            env=dict(env),
            input=question(base_url, api_key, model),
            capture_output=True,
            text=True,
            timeout=PATIENCE + _LISTS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LauncherError(f"docker exec {container} gave no answer: {error}", hint="docker ps shows it") from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        hint = "start it with --add-host host.docker.internal:host-gateway, and have the launcher listen beyond loopback"
        raise LauncherError(f"from inside {container}: {reason}", hint=hint)
    return answer(done.stdout, container)


def question(base_url: str, api_key: str, model: str) -> str:
    """The question as curl's configuration (curl.se/docs/manpage.html, --config)."""
    body = json.dumps(
        {"model": model, "messages": [{"role": "user", "content": QUESTION}], "max_tokens": ANSWER_TOKENS, "temperature": 0}
    )
    options = {
        "url": f"{base_url}/chat/completions",
        "max-time": str(int(PATIENCE)),
        "header": "Content-Type: application/json",
        "data": body,
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in options.items()]
    headers = ("X-Launcher-Fallback: none", f"Authorization: Bearer {api_key}")
    return "\n".join([*lines, *(f"header = {json.dumps(each)}" for each in headers)]) + "\n"


def answer(text: str, container: str) -> str:
    """The words in an answer; raises LauncherError for one without."""
    try:
        return str(json.loads(text)["choices"][0]["message"]["content"])
    except (ValueError, LookupError, TypeError):
        shown = " ".join(text.split())[:200] or "nothing"
        raise LauncherError(f"from inside {container} the answer was: {shown}", hint="launcher ps") from None
