"""What docker's own program says when it cannot: read in an engine's log, and in the answers to our own questions.

Source: the errors of docker/cli and moby/moby; https://docs.docker.com/engine/install/linux-postinstall for the group.
"""

from launcher.engines.base import Fault

# As it begins a container, or would.
FAULTS: tuple[Fault, ...] = (
    Fault(
        "docker-denied",
        r"permission denied while trying to connect to the (?i:docker)",
        "docker does not let this user in",
        "`sudo usermod -aG docker $USER` and log in anew (who is in that group can become root), or take rootless docker",
    ),
    Fault(
        "docker-down",
        r"Cannot connect to the Docker daemon|[Ff]ailed to connect to the docker API|Is the docker daemon running",
        "docker's daemon does not run",
        "`sudo systemctl start docker`; `docker info` says more",
    ),
    Fault(
        "docker-gpus",
        r"could not select device driver .*gpu|unresolvable CDI devices|unknown or invalid runtime name: nvidia",
        "docker knows no NVIDIA runtime, and cannot give GPUs to a container",
        "install NVIDIA's Container Toolkit and let it configure docker, which is then restarted "
        "(https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html)",
    ),
    Fault(
        "docker-nvidia",
        r"nvidia-container-cli: ([^\n]+?)(?:: unknown\.?)?$",
        "NVIDIA's runtime cannot give the GPUs to a container ({0})",
        "`nvidia-smi` shows whether the driver works; after an update of it, restart the machine and docker",
    ),
    Fault(
        "image-gone",
        r"No such image: (\S+)|Unable to find image '([^']+)' locally",
        "docker does not have the image {0}",
        "`launcher engines check` asks docker for it, and says how to have it again",
    ),
    Fault(
        "image-program",
        r'exec: "([^"]+)": (?:executable file not found|stat |permission denied)',
        "the image has no {0}: it is none of this engine's",
        "`launcher engines use` chooses another one",
    ),
    Fault(
        "port",
        r"port is already allocated|failed to bind host port",
        "the port was taken by another program",
        "it is started again on another one",
        retry="again",
    ),
    Fault(
        "docker",
        r"^docker: (?:Error response from daemon: )?(.+)",
        "docker did not start the container: {0}",
        "`docker info` says whether docker itself is well",
    ),
)

# As it pulls an image: what an engine may say too, of other things.
PULLING: tuple[Fault, ...] = (
    Fault(
        "image-unknown",
        r"pull access denied|manifest unknown|manifest for \S+ not found|: not found$|repository does not exist",
        "the registry has no such image",
        "see its page for the tags that there are",
    ),
    Fault(
        "registry-busy",
        r"toomanyrequests|You have reached your .*pull rate limit",
        "the registry lets nobody pull more for now",
        "`docker login` raises the limit, or wait some hours",
    ),
    Fault(
        "registry-away",
        r"no such host|i/o timeout|TLS handshake timeout|network is unreachable|connection refused|dial tcp|Client\.Timeout",
        "docker cannot reach the image's registry",
        "it is docker's daemon that asks: a proxy is its own setting (https://docs.docker.com/engine/daemon/proxy)",
    ),
    Fault(
        "docker-disk",
        r"[Nn]o space left on device",
        "docker's disk is full",
        "`docker system df` shows what takes room; `launcher clean` frees nothing there",
    ),
)

# What it says beside the reason.
ASIDE = r"^(?:Run|See) 'docker [a-z -]*--help'|^\s*$|^WARNING:"
