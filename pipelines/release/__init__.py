"""One image in one cloud: uploaded, promoted, repaired, rolled back, pruned."""
