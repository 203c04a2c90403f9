"""Constants over HTTP: a service that speaks LCLS's read protocol, and a client of such a service."""

from calib.service.client import Service, open_service

__all__ = ["Service", "open_service"]
