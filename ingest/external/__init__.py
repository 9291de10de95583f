"""Data of other codes: readers for their formats, one schema, checks, corrections on request, and exports."""
