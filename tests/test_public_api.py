import subprocess
import sys

import fuserank


def test_public_names_are_pinned():
    assert sorted(fuserank.__all__) == [
        "AsyncClient",
        "BundleInfo",
        "Cap",
        "Client",
        "Diversity",
        "Embeddings",
        "Engine",
        "FuserankError",
        "ItemFilter",
        "Predicate",
        "Recommendation",
        "Scores",
        "Timings",
        "__version__",
        "load",
    ]
    for name in fuserank.__all__:
        assert getattr(fuserank, name) is not None


def test_importing_the_package_imports_nothing_heavy():
    heavy = "onnxruntime numba grpc torch tensorflow onnx transformers"
    code = f"import fuserank, sys; print([m for m in {heavy.split()!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_serving_imports_no_training_packages():
    heavy = "torch tensorflow keras onnx onnx_ir transformers optimum tf2onnx pyarrow"
    code = (
        "import fuserank.engine.engine, fuserank.server.main, sys;"
        f"print([m for m in {heavy.split()!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
