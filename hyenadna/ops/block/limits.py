"""How much the operators take in hand at once."""

MOST_HIDDEN = 2**27
"""Numbers of a hidden layer at a time."""
MOST_SMOOTHED = 2**28
"""Numbers of smoothed signals (three for each channel) at a time."""
