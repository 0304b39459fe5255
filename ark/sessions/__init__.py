"""Sessions: what a conversation has said and the exact tokens the model has read and written.

`store` holds them and is pure; `service` adds waiting and writing to disk; `transcript` is the value itself.
"""
