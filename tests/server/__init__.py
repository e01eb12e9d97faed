"""Tests of the local service, a package so that they share their client."""
