"""Each service's HTTP as data. Nothing here opens a socket; the client and the local service share it."""
