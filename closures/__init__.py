"""The closures that come with subgrid, each registered under the entry-point group `subgrid.closures`."""
