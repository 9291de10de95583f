"""The shallow-water equations over any bottom."""
