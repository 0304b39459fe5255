"""What a GGUF file holds: its metadata and tensors as they are stored, and its tokenizer."""
