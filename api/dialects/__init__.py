"""The dialects of rerank clients: each in a file, all on the same path of a job."""
