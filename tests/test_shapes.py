"""The shapes in the signatures of `archs`, checked while every family runs: in a process of its own, since the hook
that checks must be there before the first import, and compilers should not meet it elsewhere."""

import os
import subprocess
import sys

SCRIPT = """
from jaxtyping import install_import_hook
with install_import_hook("archs", "beartype.beartype"):
    import archs
    import torch
    names = ["lale-s1", "lale-b-s1-k7", "lwganet-l0", "lwganet-l0+mlp", "lemevit-tiny+mlp", "lemore", "lale-s1+upernet",
             "lale-s1+unetformer", "smp/linknet-efficientnet_b0"]
    for name in names:
        model = archs.create(name, num_classes=3).eval()
        with torch.no_grad():
            assert model(torch.rand(2, 3, 70, 97)).shape == (2, 3, 70, 97), name
    print(len(names), "checked")
"""


def test_every_family_keeps_the_shapes_that_it_declares():
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "9 checked"
