"""The gRPC clients: the query service and the model server."""
