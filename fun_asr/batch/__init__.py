"""Many recordings: who transcribes them, what is done already, what is left."""
