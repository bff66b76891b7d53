"""Finished builds on disk: folders, manifests, records, SBOMs, differences."""
