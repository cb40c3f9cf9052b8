"""What scores must equal: the recipe of Qwen3-Reranker's model card, computed with transformers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, Qwen3ForCausalLM

from worker.profiles import Golden, GoldenCase

INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"


class Reference:
    """One checkpoint. Prompts are scored one at a time: no padding, no company."""

    def __init__(self, checkpoint: Path) -> None:
        torch.set_num_threads(1)  # several threads wait for each other while engines have the cores
        self.tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint)
        self.model: Any = Qwen3ForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
        self.prefix = self.tokenizer.encode(
            "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and "
            'the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
            "<|im_start|>user\n",
            add_special_tokens=False,
        )
        self.suffix = self.tokenizer.encode(
            "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n", add_special_tokens=False
        )
        self.no = self.tokenizer.convert_tokens_to_ids("no")
        self.yes = self.tokenizer.convert_tokens_to_ids("yes")

    def ids(self, query: str, document: str, max_tokens: int, instruction: str = INSTRUCTION) -> list[int]:
        pair = f"<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}"
        body = self.tokenizer(
            [pair],
            padding=False,
            truncation="longest_first",
            max_length=max_tokens - len(self.prefix) - len(self.suffix),
            # What a caller writes is text, also where it looks like one of the template's special tokens.
            split_special_tokens=any(token in pair for token in self.tokenizer.all_special_tokens),
        )["input_ids"][0]
        return [*self.prefix, *body, *self.suffix]

    def score(self, ids: Sequence[int]) -> float:
        with torch.no_grad():
            logits = self.model(torch.tensor([list(ids)]), logits_to_keep=1).logits[0, -1]
        no_yes = torch.stack([logits[self.no], logits[self.yes]])
        return float(torch.log_softmax(no_yes, dim=0)[1].exp())

    def golden(self, query: str, documents: Sequence[str]) -> Golden:
        """Golden pairs of this checkpoint, with its values."""
        scores = {text: self.score(self.ids(query, text, 8_192)) for text in documents}
        best_first = tuple(sorted(scores, key=lambda text: scores[text], reverse=True))
        case = GoldenCase(
            query=query, documents=best_first, scores=tuple(scores[text] for text in best_first)
        )
        return Golden(source="the model card's recipe", tolerance=1e-5, cases=(case,))
