"""What the APIs of both apps are built on."""
