"""Functions on tensors, each written as a rule on `builder.Value`s. Start with `arithmetic.py`; `common.py` has what they share."""
