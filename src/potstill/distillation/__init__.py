"""Student from teacher: layer choice, exact start, signals, objectives."""
