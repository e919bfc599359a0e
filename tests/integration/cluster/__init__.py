"""The index on a real cluster: it holds the same as one server, loses nothing with a node, and names the lost one."""
