"""Neural networks: `Module`, layers, losses, `functional` and `init`. Start with `module.py`."""
