"""What every room may import: errors, files, pictures, fingerprints, wheels."""
