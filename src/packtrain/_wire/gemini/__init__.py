"""The Gemini Batch and Files API."""
