"""Readers of data formats, one file each; `ingest.external.recognise` has their registry."""
