"""What a candidate is installed with, against the production lock."""
