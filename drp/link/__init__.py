"""How the processes of a partition reach each other: the run directory, sockets and their keys, and the line to control."""
