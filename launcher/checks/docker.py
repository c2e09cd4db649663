"""Whether docker can serve the engines that are images, and what of ours it still runs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from launcher.finding import Finding, fails, passes, warns

# Before it, hosts on the same network segment can reach what is published on loopback (docs.docker.com, "Port publishing";
# github.com/moby/moby/issues/45610).
KEEPS_LOOPBACK = 28


@dataclass(frozen=True, slots=True)
class DockerSeen:
    """Docker's version, whether it can give GPUs to containers, the images by name and whether it has each.

    `left` are containers of this home that no server has any more.
    """

    version: str
    gpus: bool
    images: Sequence[tuple[str, bool]]
    left: Sequence[str] = ()


def docker(seen: DockerSeen) -> Iterator[Finding]:
    """What keeps an image from being served, or from being this machine's alone."""
    title = "docker"
    for name in (name for name, there in seen.images if not there):
        yield fails(
            title, f"it does not have the image of {name} any more", f"`launcher engines remove {name}`, or pull it again"
        )
    if not seen.gpus:
        remedy = "install the NVIDIA Container Toolkit, then `sudo nvidia-ctk runtime configure --runtime=docker`"
        yield fails(title, f"docker {seen.version} knows no NVIDIA runtime: a container gets no GPU", remedy)
    if seen.left:
        detail = f"left of servers that ended: {len(seen.left)} {'containers' if len(seen.left) > 1 else 'container'}"
        yield warns(title, detail, f"docker rm --force {' '.join(seen.left)}")
    major = seen.version.partition(".")[0]
    if major.isdecimal() and int(major) < KEEPS_LOOPBACK:
        detail = (
            f"docker {seen.version} lets its network's neighbours reach an engine's port on loopback, though not past its key"
        )
        yield warns(title, detail, f"Docker {KEEPS_LOOPBACK} or newer keeps them out")
    elif seen.gpus and all(there for _, there in seen.images):
        yield passes(title, f"docker {seen.version} has {', '.join(name for name, _ in seen.images)}")
