"""Code generators: clusters in, kernel text and calls out. `emitter.py` writes the text."""
