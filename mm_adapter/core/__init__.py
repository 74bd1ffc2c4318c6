"""What every room may import: errors, files, pictures, fingerprints, wheels."""

QUANTIZATIONS = ("none", "int8", "int4", "blocks")
"""Names of the forms in which frozen weights are kept; apart from what makes them, so that no option needs torch."""
