"""A deployment as it was recorded, and decided once more."""
