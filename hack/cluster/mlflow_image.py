"""The image of the MLflow server, which no registry package has ready."""

from __future__ import annotations

from pathlib import Path

from hack.cluster import images, source
from hack.cluster.workspace import HERE, Artifact

MLFLOW_IMAGE = "localhost/mlflow:3.17.2"


def mlflow_build() -> images.Build:
    """Return what the image is built from."""
    folder = HERE / "mlflow"
    return images.Build(MLFLOW_IMAGE, folder / "Dockerfile", folder)


def mlflow_archive() -> Path:
    """Return the image as an archive, for the store of the packages mode."""

    def build(partial: Path) -> None:
        images.build_image(mlflow_build(), source.PACKAGES)
        images.save_archive(MLFLOW_IMAGE, source.PACKAGES, partial / "mlflow.tar")

    inputs: list[str | bytes | Path] = [HERE / "mlflow", HERE / "debian.py"]
    return Artifact("mlflow-image", "3.17.2", inputs).ensure(build) / "mlflow.tar"
