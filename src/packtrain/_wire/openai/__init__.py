"""The OpenAI API: files, uploads, batches, chat completions and embeddings."""
