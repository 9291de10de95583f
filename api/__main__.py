"""`python -m subgrid` and `torchrun -m subgrid`: the command `subgrid`."""

from subgrid.commands.entry import main

main()
