"""What networks of several families are built of."""
