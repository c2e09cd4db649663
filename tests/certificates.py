"""Certificates that sign themselves."""

import subprocess
from pathlib import Path


def certificate(folder: Path, address: str) -> tuple[Path, Path]:
    """One for localhost and this address in `folder`, and its key; it is good for two days."""
    made, key = folder / "cert.pem", folder / "key.pem"
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", f"subjectAltName=DNS:localhost,IP:{address}"]
    subprocess.run([*argv, *names, "-out", made, "-keyout", key], check=True, capture_output=True)
    return made, key
