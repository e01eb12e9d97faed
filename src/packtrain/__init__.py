"""Send very large JSONL workloads through LLM Batch APIs: nothing lost, nothing paid for twice."""
