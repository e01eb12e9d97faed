"""Requests of the Gemini API, as far as a mistake shows that concerns a whole file.

Members are those of ``generateContent`` and ``embedContent`` in the API's reference.
"""

from __future__ import annotations

from ..._rules.diagnosis import RequestForm

#: By task.
FORMS = {
    "generate": RequestForm(
        needs="contents",
        members=(
            "contents",
            "tools",
            "toolConfig",
            "safetySettings",
            "systemInstruction",
            "generationConfig",
            "cachedContent",
            "model",
            "labels",
            "store",
            "serviceTier",
        ),
        options="generationConfig",
        option_members=(
            "stopSequences",
            "responseMimeType",
            "responseSchema",
            "responseJsonSchema",
            "_responseJsonSchema",
            "responseModalities",
            "responseFormat",
            "candidateCount",
            "maxOutputTokens",
            "temperature",
            "topP",
            "topK",
            "seed",
            "presencePenalty",
            "frequencyPenalty",
            "responseLogprobs",
            "logprobs",
            "enableEnhancedCivicAnswers",
            "speechConfig",
            "thinkingConfig",
            "imageConfig",
            "mediaResolution",
            "audioTimestamp",
            "modelSelectionConfig",
            "routingConfig",
        ),
        beside=("config", "generationConfig", "generation_config", "systemInstruction", "system_instruction"),
    ),
    "embed": RequestForm(
        needs="content",
        members=("content", "taskType", "title", "outputDimensionality", "model", "autoTruncate", "embedContentConfig"),
        beside=("config", "embedContentConfig", "embed_content_config"),
    ),
}
