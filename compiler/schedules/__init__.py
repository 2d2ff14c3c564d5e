"""How loop nests become kernels, as data: one `Schedule` per nest of a fusion group, which emitters read and never decide.

`form.py` says what a schedule is, `kinds.py` lists the kinds with their fields, `choose.py` chooses one for a nest and a machine.
"""


class ScheduleError(ValueError):
    """A schedule that is none, or does not fit its nest. Says which field, and what would be right."""
