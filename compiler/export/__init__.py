"""Programs for other machines: object files, headers, executables. `exporter.py` is the way in."""
