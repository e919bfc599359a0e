"""The task queues: messages, the Celery applications, and the intake of originals."""
