"""Local batch service: the Gemini and OpenAI batch APIs on one machine, durable across kill -9."""

from .app import create_app
from .quotas import GEMINI_QUOTAS, Quotas
from .service import serving
from .store import Store, open_store
from .wires.openai.limits import OpenAILimits

__all__ = ["GEMINI_QUOTAS", "OpenAILimits", "Quotas", "Store", "create_app", "open_store", "serving"]
