"""The edge: one adapter for each external system."""
