"""Models in GGUF, llama.cpp's format: one file with weights, tokenizer, chat template and configuration."""
