"""What is to be transcribed: recordings found in folders and named by lists."""
