"""``GET /`` greets, ``POST /length`` counts the body, ``/ws`` echoes: written in each way."""
