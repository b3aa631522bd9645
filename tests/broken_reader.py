"""A reader that crashes, hangs and raises: fuzzing must find it out. It imports little."""

import os
import time


def seeds(folder):
    (folder / "seed").write_bytes(bytes(range(200)))
    return [folder / "seed"]


def load():
    return read


def read(path):
    match int(path.stem):
        case 1:
            os.abort()
        case 3:
            time.sleep(100)
        case 5:
            raise KeyError
        case 6:
            raise ValueError


def refusals():
    return (ValueError,)
