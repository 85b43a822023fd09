"""Many recordings: finding them, and writing what was transcribed."""
