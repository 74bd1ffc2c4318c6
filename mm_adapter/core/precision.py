"""Names of the forms in which frozen weights are kept; apart from what makes them, so that no option needs torch."""

QUANTIZATIONS = ("none", "int8", "int4", "blocks")
