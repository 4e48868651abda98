"""From a question to its answer: admission, the queue, plans, and calls of the engine."""
