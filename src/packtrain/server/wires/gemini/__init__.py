"""The Gemini wire of the service: v1, v1beta and v1alpha alike."""
