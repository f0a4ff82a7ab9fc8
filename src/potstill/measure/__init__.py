"""Speed, memory and the machine's facts: each model in a process of its own, commanded in turn."""
