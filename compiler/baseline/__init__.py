"""The baseline tier: programs run op by op until a plan is there, with the same bits. `op_by_op.py` is the way in."""
