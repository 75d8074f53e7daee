"""What each family of nodes does, between its sockets and the core."""
