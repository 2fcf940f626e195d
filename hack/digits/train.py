"""Two versions of a digits classifier, trained from scikit-learn's data set: python3 train.py FOLDER.

Logistic regression on the first 1,200 images; the other 597, drawn by other people, are held out. Version 2 is less
regularised: it labels every held-out image as version 1 does, and its probabilities differ by little more than 0.01.
Runs with what requirements.lock pins.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file  # type: ignore[import-not-found]
from sklearn.datasets import load_digits  # type: ignore[import-not-found]
from sklearn.linear_model import LogisticRegression  # type: ignore[import-not-found]

TRAINED_ON = 1200
PIXEL_SCALE = 1 / 16
INVERSE_REGULARISATION = {"1": 0.1, "2": 0.105}
REQUESTS = 200
TOLERANCE = 0.02
"""Largest difference of a probability that callers do not mind."""


def trained(pixels: Any, labels: Any, strength: float) -> Any:
    """A fitted classifier; the solver is deterministic."""
    classifier = LogisticRegression(C=strength, max_iter=2000, tol=1e-8)
    return classifier.fit(pixels[:TRAINED_ON] * PIXEL_SCALE, labels[:TRAINED_ON])


def written(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def save(folder: Path, version: str, classifier: Any) -> None:
    """Weights and the config that goes with them."""
    folder.mkdir(parents=True)
    weights = {
        "coefficients": np.ascontiguousarray(classifier.coef_, dtype=np.float64),
        "intercept": np.ascontiguousarray(classifier.intercept_, dtype=np.float64),
    }
    path = folder / "model.safetensors"
    save_file(weights, str(path))
    path.chmod(0o644)  # the server runs as another user
    config = {
        "classes": [int(label) for label in classifier.classes_],
        "family": "LogisticRegression",
        "inverseRegularisation": INVERSE_REGULARISATION[version],
        "pixelScale": PIXEL_SCALE,
        "trainedOn": TRAINED_ON,
    }
    written(folder / "config.json", config)


def evaluation(classifier: Any, pixels: Any, labels: Any) -> dict[str, float]:
    """Of the held-out images."""
    accuracy = float(classifier.score(pixels[TRAINED_ON:] * PIXEL_SCALE, labels[TRAINED_ON:]))
    samples = len(labels) - TRAINED_ON
    names = ("accuracy", "compliance_at_1")
    return dict.fromkeys(names, accuracy) | {f"{name}_samples": samples for name in names}


def regression(classifier: Any, baseline: Any, pixels: Any) -> dict[str, object]:
    """How far the held-out images are answered otherwise than by the version before."""
    held_out = pixels[TRAINED_ON:] * PIXEL_SCALE
    differences = np.abs(classifier.predict_proba(held_out) - baseline.predict_proba(held_out))
    agreement = float(np.mean(classifier.predict(held_out) == baseline.predict(held_out)))
    return {
        "images": len(held_out),
        "labelsThatAgree": agreement,
        "largestDifference": float(differences.max()),
        "meanDifference": float(differences.mean()),
        "tolerance": TOLERANCE,
        "passed": bool(agreement >= 0.99 and differences.max() <= TOLERANCE),
    }


def request_of(row: Any) -> str:
    """The body of an inference request for one image, as the Open Inference Protocol v2 has it."""
    tensor = {"name": "pixels", "datatype": "FP64", "shape": [1, 64], "data": [float(value) for value in row]}
    return json.dumps({"inputs": [tensor]}, separators=(",", ":"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    pixels, labels = load_digits(return_X_y=True)
    classifiers = {version: trained(pixels, labels, strength) for version, strength in INVERSE_REGULARISATION.items()}
    for version, classifier in classifiers.items():
        save(folder / f"v{version}", version, classifier)
        written(folder / f"v{version}" / "evaluation" / "compliance.json", evaluation(classifier, pixels, labels))
        report = regression(classifier, classifiers["1"], pixels)
        written(folder / f"v{version}" / "reports" / "regression.json", report)
    rows = pixels[TRAINED_ON : TRAINED_ON + REQUESTS]
    (folder / "requests.jsonl").write_text("".join(f"{request_of(row)}\n" for row in rows))


if __name__ == "__main__":
    main()
