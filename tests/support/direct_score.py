"""What vLLM itself says: `LLM.score` on the texts of standard input (JSON), scores on standard output.

Run as a program, since an engine takes the environment and the memory of its process.
"""

import json
import os
import sys


def main() -> None:
    os.environ.update(VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_CPU_KVCACHE_SPACE="1", VLLM_NO_USAGE_STATS="1")
    from vllm import LLM

    asked = json.load(sys.stdin)
    llm = LLM(
        model=asked["model"],
        runner="pooling",
        dtype="float32",
        enforce_eager=True,
        gpu_memory_utilization=0.1,
    )
    outputs = llm.score(asked["query"], asked["documents"])
    print("SCORES", json.dumps([output.outputs.score for output in outputs]))  # noqa: T201


if __name__ == "__main__":
    main()
