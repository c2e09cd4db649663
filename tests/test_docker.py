"""Docker's own program, asked for real where there is a stand-in for it; what it says is told in the words of its faults."""

import time
from pathlib import Path

import pytest

from launcher import docker
from launcher.errors import LauncherError
from tests.docker_for_tests import INFO, REFERENCE, SIZE, TAG, OwnDocker

# As docker/cli and moby/moby say it, and as tests/samples has it from public reports.
SAID = {
    "a user whom docker does not know": (
        "permission denied while trying to connect to the docker API at unix:///var/run/docker.sock",
        "docker does not let this user in",
        "usermod -aG docker",
    ),
    "a daemon that does not run": (
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
        "docker's daemon does not run",
        "systemctl start docker",
    ),
    "no runtime for GPUs": (
        'Error response from daemon: could not select device driver "" with capabilities: [[gpu]].',
        "docker knows no NVIDIA runtime, and cannot give GPUs to a container",
        "Container Toolkit",
    ),
    "a machine without a network": (
        'Error response from daemon: Get "https://registry.example/v2/": dial tcp: lookup registry.example: no such host',
        "docker pull: docker cannot reach the image's registry",
        "proxy",
    ),
    "a tag that does not exist": (
        "Error response from daemon: manifest for vllm/vllm-openai:v9 not found: manifest unknown: manifest unknown",
        "docker pull: the registry has no such image",
        "tags",
    ),
    "a repository that does not exist": (
        "Error response from daemon: pull access denied for vllm/x, repository does not exist or may require 'docker login'",
        "docker pull: the registry has no such image",
        "tags",
    ),
    "a registry that has had enough": (
        "Error response from daemon: toomanyrequests: You have reached your unauthenticated pull rate limit.",
        "docker pull: the registry lets nobody pull more for now",
        "docker login",
    ),
    "a disk that is full": (
        "failed to register layer: write /usr/lib/libcublasLt.so.13: no space left on device",
        "docker pull: docker's disk is full",
        "docker system df",
    ),
    "anything else": (
        "Error response from daemon: a wonder\n\nRun 'docker pull --help'",
        "docker pull: a wonder",
        "docker info",
    ),
    "nothing at all": ("", "docker pull: it said nothing", "docker info"),
}


@pytest.mark.parametrize(("said", "message", "hint"), SAID.values(), ids=SAID)
def test_what_docker_says_is_told_with_what_to_do(said: str, message: str, hint: str) -> None:
    fault = docker.explained("docker pull", said)
    assert fault.message == message
    assert hint in fault.hint


@pytest.fixture
def own(tmp_path: Path) -> OwnDocker:
    return OwnDocker.make(tmp_path / "docker")


def test_an_image_is_known_by_the_digest_that_was_pulled(own: OwnDocker) -> None:
    found = docker.image(TAG, own.env, daemon=own.daemon)
    assert found == docker.Image(REFERENCE, SIZE, (13, 0))
    assert docker.image("vllm/vllm-openai:v9", own.env, daemon=own.daemon) is None
    own.keep("images", {"mine:1": {"Id": "sha256:0f", "RepoDigests": [], "Size": 1, "Config": {"Env": None}}})
    # One that was built here has none.
    assert docker.image("mine:1", own.env, daemon=own.daemon) == docker.Image("sha256:0f", 1)


@pytest.mark.parametrize(
    ("more", "gpus"),
    [
        pytest.param({}, True, id="the runtime"),
        pytest.param({"Runtimes": {"runc": {}}}, False, id="none"),
        pytest.param(
            {"Runtimes": {"runc": {}}, "DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=all"}]}, True, id="CDI"
        ),
    ],
)
def test_whether_it_gives_gpus_to_containers_is_asked(own: OwnDocker, more: dict[str, object], *, gpus: bool) -> None:
    own.keep("info", {**INFO, **more})
    assert docker.look(own.env, daemon=own.daemon) == docker.Daemon("28.3.2", gpus=gpus)


def test_a_daemon_that_cannot_be_asked_is_told_though_its_program_answers(own: OwnDocker) -> None:
    own.keep("info", {"ServerErrors": ["Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?"]})
    with pytest.raises(LauncherError, match="docker's daemon does not run"):
        docker.look(own.env, daemon=own.daemon)


def test_one_that_hangs_is_given_up(own: OwnDocker) -> None:
    own.fails("info", seconds=30)
    began = time.monotonic()
    with pytest.raises(LauncherError, match="did not answer"):
        docker.ask(("info",), own.env, timeout=0.3)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("address", ["tcp://10.0.0.5:2375", "ssh://ada@gpu-box"])
def test_one_on_another_machine_is_refused(own: OwnDocker, address: str) -> None:
    with pytest.raises(LauncherError, match=f"docker leads to {address}") as fault:
        docker.daemon({**own.env, "DOCKER_HOST": address})
    assert "DOCKER_HOST" in fault.value.hint
    assert docker.daemon(own.env) == own.daemon


def test_without_its_program_there_is_no_docker(tmp_path: Path) -> None:
    with pytest.raises(LauncherError, match="there is no `docker` on the PATH"):
        docker.daemon({"PATH": str(tmp_path)})
