"""Compare this implementation with recorded outputs of the original LLaMA-Adapter, V1 or multimodal V2.

    python scripts/check_official_parity.py FOLDER [--tolerance 1e-5] [--json FILE]

FOLDER of V1 holds params.json, consolidated.00.pth, adapter.pth and expected.safetensors. That of V2 holds the model in
base/, an open_clip configuration with its weights in clip/, checkpoints such as BIAS-tiny.pth, expected.safetensors.
"""

import argparse
import sys
from pathlib import Path

from bars import bar, write_bars
from official_parity import official_errors
from official_v2_parity import is_v2, official_v2_errors

from mm_adapter.core.errors import UserError


def main() -> int:
    """Print every error, largest last; return 1 beyond the tolerance, 2 for unusable files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="recorded outputs")
    parser.add_argument("--tolerance", type=float, default=1e-5, help="largest absolute error that passes")
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    options = parser.parse_args()
    try:
        compare = official_v2_errors if is_v2(options.folder) else official_errors
        errors = compare(options.folder)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    for name, error in sorted(errors.items(), key=lambda item: item[1]):
        print(f"{error:.3e}  {name}")
    if options.json is not None:
        write_bars(
            options.json,
            [bar(name, error, options.tolerance, error <= options.tolerance) for name, error in errors.items()],
        )
    worst = max(errors.values(), key=lambda error: (error != error, error))  # NaN is the worst
    agrees = all(error <= options.tolerance for error in errors.values())
    print(f"{'agrees' if agrees else 'DIFFERS'}: largest error {worst:.3e}, tolerance {options.tolerance:g}")
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main())
