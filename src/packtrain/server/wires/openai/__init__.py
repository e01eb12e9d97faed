"""OpenAI wire, under ``/v1beta/openai/`` and ``/v1/``.

Ids are the same under both paths and on the Gemini wire: ``files/…`` and ``batches/…``, as in the real compatibility
layer. So a file uploaded on one wire can be an input on the other, and the Gemini wire also lists the batches created
here; this wire lists only its own.

The paths ``/v1/…`` belong to both wires. Since an id contains a slash, ``/v1/files/files%2Fx`` is OpenAI's and
``/v1/files/x`` Gemini's. List calls are OpenAI's for a client with a Bearer key and no Google header or parameter.
"""
