"""How the embedded chat model is made: generated dialogue, a tokenizer, a trainer, an examination."""
