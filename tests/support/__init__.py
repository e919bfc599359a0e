"""What tests share: servers, clients, data made on the spot, and waiting for events."""
