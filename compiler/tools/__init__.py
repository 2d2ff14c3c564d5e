"""What people see of the compiler: stages as text, reports, where steps come from."""
