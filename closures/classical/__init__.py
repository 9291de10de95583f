"""Classical closures: eddy viscosities and hyperviscosities."""
