"""Gemini wire: v1, v1beta and v1alpha are served alike."""
