"""SenseVoiceSmall: a SAN-M encoder with a CTC head that is asked for language, emotion, events and written form."""
