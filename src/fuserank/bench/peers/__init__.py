"""Other servers that answer the same question from the same ONNX graph, one adapter a file.

Each adapter runs in a virtual environment of its own, because they pin packages that conflict: it
imports NumPy, ONNX Runtime and its server, and of this package only what needs no more than these.
"""
