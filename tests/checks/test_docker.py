from dataclasses import replace

import pytest

from launcher.checks.docker import DockerSeen, docker

WELL = DockerSeen("28.3.2", gpus=True, images=(("vllm-0.32.0-image", True),))


@pytest.mark.parametrize(
    ("seen", "levels", "words"),
    [
        pytest.param(WELL, ["pass"], "docker 28.3.2 has vllm-0.32.0-image", id="it has the image and a runtime for GPUs"),
        pytest.param(replace(WELL, version="30.0.0"), ["pass"], "docker 30.0.0", id="a newer one"),
        pytest.param(
            replace(WELL, images=(("mine", False),)), ["fail"], "does not have the image of mine", id="an image that is gone"
        ),
        pytest.param(replace(WELL, gpus=False), ["fail"], "knows no NVIDIA runtime", id="no runtime for GPUs"),
        pytest.param(
            replace(WELL, version="27.5.1"), ["warn"], "neighbours reach an engine's port", id="one that lets neighbours in"
        ),
        pytest.param(
            replace(WELL, left=("launcher-a", "launcher-b")),
            ["warn", "pass"],
            "left of servers that ended: 2 containers",
            id="containers that no server has",
        ),
    ],
)
def test_what_keeps_docker_from_serving_is_told(seen: DockerSeen, levels: list[str], words: str) -> None:
    found = list(docker(seen))
    assert [each.level for each in found] == levels
    assert words in found[0].detail
    assert all(bool(each.remedy) == (each.level != "pass") for each in found)
