"""What the families with a SAN-M encoder share: how it is configured and stored."""
