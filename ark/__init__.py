"""ARK: an inference server behind OpenAI's API that remembers."""

__version__ = "0.1.0"
