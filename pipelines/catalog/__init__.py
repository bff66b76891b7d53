"""images.yaml: read, merged and validated into variants."""
