"""Intervals and tests that hold at every look: anytime-valid statistics from counters and bucket counters.

All evidence is ln E, where E is an e-process: if the null hypothesis holds, the chance that E ever reaches 1/α is α at
most, however often somebody looks (Ville's inequality). An interval holds the values whose ln E is below ln(1/α); so it
covers the truth at all looks together with probability 1 − α.

A `dispersion` φ > 1 says that events come in clumps of about φ: counts are divided by it, which leaves that much
evidence. Values that make no sense are a ValueError.
"""
