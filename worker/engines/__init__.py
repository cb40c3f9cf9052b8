"""Engines behind one protocol (`base`). Only `vllm` imports vLLM."""
