"""The resources users write: pydantic models, conditions, CRD generation."""
