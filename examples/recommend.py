"""Ask a bundle in process: python examples/recommend.py BUNDLE."""

import sys

import fuserank

with fuserank.load(sys.argv[1], device="auto") as engine:
    known = engine.recommend({"user_id": "42"}, k=3)
    new = engine.recommend({"profile": "slow science fiction", "history": ["50", "172"]}, k=3)
    for found in (known, new):
        titles = [item["title"] for item in engine.attributes(found.item_ids)]
        print(found.served_as, titles, f"{found.timings.total_ms:.2f} ms")
