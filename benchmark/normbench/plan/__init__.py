"""What is to be run: identities, and which stored results still stand."""
