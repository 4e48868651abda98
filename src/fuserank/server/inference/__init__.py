"""The Open Inference Protocol, version 2: what `tritonclient` and perf_analyzer speak.

A bundle called ``films`` is three models: ``films`` recommends, ``films.score`` scores named items
and ``films.encoder`` embeds texts. Each row of a tensor is one user, one text:

- an input that a request leaves out is a field of which nothing is known;
- so is an empty string in one row of an input, and a number that is NaN or that no float32 holds,
  which is what graphs read;
- of an input of any length, empty strings fill up the rows that are shorter.

The generated code defines the same messages as tritonclient's does, and protobuf takes each name
once: a process that imports this package cannot import tritonclient. `fuserank.Client` does not
import it.
"""
