"""From messages to tokens and back, for any engine."""
