"""The services. Each knows `shared` and no other service: messages, objects and gRPC pass between them."""
