"""One file per kind of task, free of torch: targets, answers, metric; it names its head."""
