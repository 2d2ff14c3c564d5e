"""From lowered clusters to plans: order, memory, control flow, devices. `plan.py` is the way in."""
