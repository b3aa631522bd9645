"""Importing the operators stays cheap: heavy libraries come with the operator that needs them."""

import subprocess
import sys


def test_heavy_libraries_are_imported_lazily():
    script = (
        "import sys, invdiff.operators;"
        "print([name for name in ('astra', 'deepinv', 'skimage') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
