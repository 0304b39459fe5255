"""How the embedded speech model is made: sentences, a synthetic voice, features, a trainer, an examination."""
