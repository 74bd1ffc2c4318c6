"""Image features against the tower's pure forward rate on pictures that are decoded already.

    python scripts/benchmark_features.py [--pictures N] [--rounds N] [--tower NAME] [--json FILE]

Ours reads, decodes and prepares drawn photographs of several sizes, looks for equal ones, runs the tower and keeps the
features on disk, by ``extract_features``, as training does. The tower alone is given the same pictures, prepared
beforehand, in the same batches. Both run by turns in one process.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from bars import bar, write_bars
from PIL import Image

from mm_adapter.core.images import open_image
from mm_adapter.vision import ImageTower, VisionConfig
from mm_adapter.vision.features import extract_features

LEAST, BATCH = 0.9, 16


def draw(folder: Path, count: int) -> list[Path]:
    """Write pictures as people have them: JPEG of 300 to 700 pixels, smooth noise, none like another."""
    generator, paths = np.random.default_rng(0), []
    for number in range(count):
        width, height = (int(size) for size in generator.integers(300, 700, 2))
        rough = Image.fromarray(generator.integers(0, 255, (12, 12, 3), dtype=np.uint8))
        paths.append(folder / f"{number}.jpg")
        rough.resize((width, height), Image.Resampling.BICUBIC).save(paths[-1], quality=90)
    return paths


def main() -> int:
    """Let both take turns, print the table, write the bar."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--pictures", type=int, default=128, help="pictures of a round")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each")
    parser.add_argument("--tower", default=VisionConfig().tower, help="image tower")
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    options = parser.parse_args()
    tower = ImageTower(VisionConfig(options.tower))
    whole, alone = [], []
    with tempfile.TemporaryDirectory() as temporary:
        paths = draw(Path(temporary), options.pictures)
        prepared = torch.stack([tower.preprocess(open_image(path)) for path in paths])  # (B, tiles, 3, size, size)
        for number in range(options.rounds + 1):
            start = time.perf_counter()
            features, _ = extract_features(tower, paths, Path(temporary) / f"store {number}", BATCH, progress=False)
            middle = time.perf_counter()
            expected = torch.cat([tower.encode(batch) for batch in prepared.split(BATCH)])
            whole.append(middle - start)
            alone.append(time.perf_counter() - middle)
            found = torch.stack([features[path] for path in paths])
            assert (found - expected).abs().max() <= 1e-5 * expected.abs().max(), "the features differ"
    ratio = statistics.median(one / other for one, other in zip(alone[1:], whole[1:], strict=True))
    print(f"{options.tower}, {options.pictures} pictures, {torch.get_num_threads()} threads")
    for name, times in (("files to features on disk", whole), ("the tower alone", alone)):
        print(f"{name:28}{options.pictures / statistics.median(times[1:]):8.1f} pictures/s")
    print(f"share of the tower's rate: {ratio:.2f} (bar {LEAST}), {'holds' if ratio >= LEAST else 'missed'}")
    if options.json is not None:
        write_bars(options.json, [bar("pictures/s over the tower's alone", ratio, LEAST, ratio >= LEAST)])
    return 0


if __name__ == "__main__":
    sys.exit(main())
