"""MLServer's scikit-learn runtime, with weights from safetensors instead of a pickle, and faults on demand.

WEIGHTS names the folder with weights and config, MODEL_VERSION what answers carry as x-model-version, FAULT one of
`FAULTS` or nothing, DELAY_MS by how much every answer is late.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from mlserver.codecs import NumpyCodec, NumpyRequestCodec  # type: ignore[import-not-found]
from mlserver.logging import logger  # type: ignore[import-not-found]
from mlserver.types import (  # type: ignore[import-not-found]
    InferenceRequest,
    InferenceResponse,
    Parameters,
    RequestOutput,
    ResponseOutput,
)
from mlserver_sklearn import SKLearnModel  # type: ignore[import-not-found]
from safetensors.numpy import load_file  # type: ignore[import-not-found]
from sklearn.linear_model import LogisticRegression  # type: ignore[import-not-found]
from sklearn.pipeline import make_pipeline  # type: ignore[import-not-found]
from sklearn.preprocessing import FunctionTransformer  # type: ignore[import-not-found]

LABELS = "predict"
PROBABILITIES = "predict_proba"
CONFIDENCE = "confidence"
FAULTS = ("", "dropped-field", "float32", "rounded", "renamed-tensor", "nan")
UNLUCKY = 10
"""With the fault `nan`, images whose ink is a multiple of it are answered with NaN."""


class _Scaled:
    """Multiplies by a factor; pipelines take functions."""

    def __init__(self, factor: float) -> None:
        self._factor = factor

    def __call__(self, values: Any) -> Any:
        return np.asarray(values, dtype=np.float64) * self._factor


def classifier_of(folder: Path) -> Any:
    """The pipeline that was trained, made of its numbers: nothing that is loaded can run."""
    config = json.loads((folder / "config.json").read_text())
    weights = load_file(folder / "model.safetensors")
    classifier = LogisticRegression(C=config["inverseRegularisation"])
    classifier.classes_ = np.array(config["classes"])
    classifier.coef_ = weights["coefficients"]
    classifier.intercept_ = weights["intercept"]
    classifier.n_features_in_ = weights["coefficients"].shape[1]
    return make_pipeline(FunctionTransformer(_Scaled(config["pixelScale"])), classifier)


class DigitsModel(SKLearnModel):  # type: ignore[misc]
    """Labels, probabilities, and the confidence, which no schema promises."""

    async def load(self) -> bool:
        folder = Path(os.environ["WEIGHTS"])
        self._fault = os.environ.get("FAULT", "")
        if self._fault not in FAULTS:
            raise ValueError(f"FAULT={self._fault!r}: expected one of {', '.join(FAULTS[1:])}, or nothing")
        self._delay = float(os.environ.get("DELAY_MS") or 0) / 1000
        self._headers = {"x-model-version": os.environ["MODEL_VERSION"]}
        self._model = classifier_of(folder)
        digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
        logger.info("weights of %s, sha256 %s, fault %r", folder.name, digest, self._fault)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        asked = {output.name for output in payload.outputs or []}
        payload.outputs = [RequestOutput(name=LABELS), RequestOutput(name=PROBABILITIES)]
        ink = [int(image.sum()) for image in self.decode_request(payload, default_codec=NumpyRequestCodec)]
        if self._delay:
            await asyncio.sleep(self._delay)
        answer = await super().predict(payload)
        labels, probabilities = answer.outputs
        values = NumpyCodec.decode_output(probabilities)
        outputs = self._answered(labels, values, ink)
        answer.outputs = [output for output in outputs if not asked or output.name in asked]
        answer.model_version = self._headers["x-model-version"]
        answer.parameters = Parameters(headers=self._headers)
        return answer

    def _answered(self, labels: ResponseOutput, values: Any, ink: list[int]) -> list[ResponseOutput]:
        name = "scores" if self._fault == "renamed-tensor" else PROBABILITIES
        confidence = values.max(axis=1)
        if self._fault in ("float32", "rounded"):
            values, confidence = values.astype(np.float32), confidence.astype(np.float32)
        if self._fault == "rounded":
            values, confidence = values.astype(np.float64), confidence.astype(np.float64)
        if self._fault == "nan":
            values[[amount % UNLUCKY == 0 for amount in ink], 0] = np.nan
        outputs = [labels, NumpyCodec.encode_output(name, values)]
        if self._fault != "dropped-field":
            outputs.append(NumpyCodec.encode_output(CONFIDENCE, confidence))
        return outputs
