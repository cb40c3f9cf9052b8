"""`podium eval`: what reranking a run through the public API does to measures of its quality."""
