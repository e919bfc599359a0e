"""What Redis or Valkey holds, on a real server and on a real cluster."""
