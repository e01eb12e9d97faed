"""HTTP APIs of the service, one package for each."""
