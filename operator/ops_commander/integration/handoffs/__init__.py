"""Reports that other teams hand over before a vote: read with limits, verified, and turned into evidence."""
