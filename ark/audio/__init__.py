"""What becomes of speech: subtitles, JSON and events."""
