"""The OpenAI wire of the service, under ``/v1beta/openai/`` and ``/v1/``.

Ids are the same under both, and the same as on the Gemini wire: ``files/…`` and ``batches/…``, as the real
compatibility layer has them. So a file uploaded on one wire is an input on the other, and the Gemini wire shows
the batches made here among its own; the other way round, this wire lists the batches made on it alone.

The paths ``/v1/…`` belong to both wires. Since an id has a slash, ``/v1/files/files%2Fx`` is OpenAI's and
``/v1/files/x`` Gemini's. Where nothing but the list is asked, a client that shows a Bearer key and nothing of
Google's gets OpenAI's form.
"""
